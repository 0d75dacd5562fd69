// Looks up each argument with Netty's DnsNameResolver as its builder makes it, one after the
// other. For each a line: `ok` and the addresses, or how the application hears that it failed.

import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioDatagramChannel;
import io.netty.resolver.dns.DnsNameResolver;
import io.netty.resolver.dns.DnsNameResolverBuilder;
import java.net.InetAddress;
import java.net.UnknownHostException;

class NettyLookup {
    public static void main(String[] names) throws Exception {
        NioEventLoopGroup group = new NioEventLoopGroup(1);
        DnsNameResolver resolver = new DnsNameResolverBuilder(group.next())
            .channelType(NioDatagramChannel.class)
            .build();
        for (String name : names) {
            var found = resolver.resolveAll(name).await();
            if (found.isSuccess()) {
                StringBuilder line = new StringBuilder("ok");
                for (InetAddress address : found.getNow()) {
                    line.append(' ').append(address.getHostAddress());
                }
                System.out.println(line);
            } else if (found.cause() instanceof UnknownHostException) {
                System.out.println("unknown-host " + found.cause());
            } else {
                System.out.println("try-again " + found.cause());
            }
        }
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }
}
