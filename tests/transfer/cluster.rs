//! A cluster of manifests, and what happens to it.

use std::fmt::Write;
use std::path::Path;

use tempfile::TempDir;

/// The file that changes.
const CHANGING: &str = "changing.yaml";

/// A folder of manifests.
pub struct Cluster(TempDir);

/// One Service of each kind, and what becomes of them.
pub const CHANGES: [&str; 6] = [
    // Another Service.
    "web 10.96.1.1 80; cache 10.96.1.2 6379; db 10.244.0.1 10.244.0.2",
    // Another address and port; an endpoint more.
    "web 10.96.1.3 8080; cache 10.96.1.2 6379; db 10.244.0.1 10.244.0.2 10.244.0.3",
    // An endpoint goes, a Service goes.
    "web 10.96.1.3 8080; db 10.244.0.2",
    // No endpoint is left.
    "web 10.96.1.3 8080; db",
    // Both families.
    "web 10.96.1.3 8080; cache fd00::7 6379; db 10.244.0.1 fd00:1::2",
    "web 10.96.1.1 80; db 10.244.0.1",
];

impl Cluster {
    /// A cluster with the last of the changes, and so many Services that stay.
    pub fn new(steady: usize) -> Self {
        let cluster = Self(TempDir::new().unwrap());
        let mut text = String::from(
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {name: outside, namespace: shop}\n\
             spec: {type: ExternalName, externalName: example.org}\n",
        );
        for n in 0..steady {
            let address = format!("10.97.{}.{}", n / 250, n % 250 + 1);
            text += &service(&format!("steady-{n}"), &address, 80);
        }
        std::fs::write(cluster.path().join("steady.yaml"), text).unwrap();
        cluster.write(CHANGES[CHANGES.len() - 1]);
        cluster
    }

    /// Where the manifests are.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes the cluster look like this.
    pub fn write(&self, change: &str) {
        let text: String = change.split("; ").map(object).collect();
        let aside = self.path().join(".aside");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, self.path().join(CHANGING)).unwrap();
    }
}

/// `web 10.96.1.1 80`, or `db` with endpoints.
fn object(line: &str) -> String {
    let mut words = line.split(' ');
    let name = words.next().unwrap();
    let rest: Vec<&str> = words.collect();
    match &rest[..] {
        [address, port] if port.parse::<u16>().is_ok() => {
            service(name, address, port.parse().unwrap())
        }
        endpoints => headless(name, endpoints),
    }
}

fn service(name: &str, address: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  clusterIP: \"{address}\"\n  clusterIPs: [\"{address}\"]\n\
         \x20 ports: [{{name: http, protocol: TCP, port: {port}}}, {{protocol: UDP, port: 53}}]\n"
    )
}

fn headless(name: &str, endpoints: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: None, ports: [{{name: sql, protocol: TCP, port: 5432}}]}}\n"
    );
    for (family, is_it) in [("IPv4", false), ("IPv6", true)] {
        let own = endpoints.iter().enumerate().filter(|(_, it)| it.contains(':') == is_it);
        write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n\
             \x20 name: {name}-{}\n  namespace: shop\n\
             \x20 labels: {{kubernetes.io/service-name: {name}}}\naddressType: {family}\n\
             ports: [{{name: sql, protocol: TCP, port: 5432}}]\nendpoints:\n",
            family.to_lowercase()
        )
        .unwrap();
        let mut count = 0;
        for (n, address) in own {
            count += 1;
            let hostname = if n == 0 { ", hostname: db-0" } else { "" };
            writeln!(
                text,
                "  - {{addresses: [\"{address}\"], conditions: {{ready: true}}{hostname}}}"
            )
            .unwrap();
        }
        if count == 0 {
            text = format!("{} []\n", text.trim_end());
        }
    }
    text
}
