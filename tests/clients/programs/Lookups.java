// Looks names up with InetAddress, as an application under way does, its caches as they are by
// default: Lookups SECONDS EVERY_MS NAME... See Asking.java for what it does and tells.

import java.net.InetAddress;

class Lookups {
    public static void main(String[] words) throws Exception {
        Asking.run(words, InetAddress::getAllByName);
    }
}
