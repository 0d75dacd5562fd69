//! The Corefile that is used when there is none: what kubeadm would install.

/// For a cluster whose domain is `cluster.local`.
///
/// CoreDNS without a Corefile answers with `whoami`; a cluster DNS should be one without being
/// told. Cluster names are never cached, so the `disable` lines of kubeadm are not needed.
pub const CLUSTER: &str = "\
.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
        max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
";

#[cfg(test)]
mod tests {
    use super::super::{Options, Origin, load};

    #[test]
    fn the_builtin_corefile_loads_without_a_warning() {
        let corefile = load(&Origin::Builtin(super::CLUSTER), &Options::default()).unwrap();
        assert_eq!(corefile.warnings, []);
        let block = &corefile.blocks[0];
        let zones: Vec<String> =
            block.kubernetes.as_ref().unwrap().zones.iter().map(ToString::to_string).collect();
        assert_eq!(zones, ["cluster.local.", "in-addr.arpa.", "ip6.arpa."]);
        assert!(block.cache.is_some() && block.loop_detection && block.reload.is_some());
    }
}
