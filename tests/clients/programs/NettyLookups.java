// Looks names up with Netty's DnsNameResolver as its builder makes it, as an application under way
// does: NettyLookups SECONDS EVERY_MS NAME... See Asking.java for what it does and tells.

import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioDatagramChannel;
import io.netty.resolver.dns.DnsNameResolver;
import io.netty.resolver.dns.DnsNameResolverBuilder;

class NettyLookups {
    public static void main(String[] words) throws Exception {
        NioEventLoopGroup group = new NioEventLoopGroup(1);
        DnsNameResolver resolver = new DnsNameResolverBuilder(group.next())
            .channelType(NioDatagramChannel.class)
            .build();
        Asking.run(words, name -> resolver.resolveAll(name).get());
    }
}
