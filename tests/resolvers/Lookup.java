// Looks up each argument with InetAddress, one after the other. For each a line: `ok` and the
// addresses, or how the application hears that it failed.

import java.net.InetAddress;
import java.net.UnknownHostException;

class Lookup {
    public static void main(String[] names) {
        for (String name : names) {
            try {
                StringBuilder line = new StringBuilder("ok");
                for (InetAddress address : InetAddress.getAllByName(name)) {
                    line.append(' ').append(address.getHostAddress());
                }
                System.out.println(line);
            } catch (UnknownHostException error) {
                System.out.println("unknown-host " + error.getMessage());
            }
        }
    }
}
