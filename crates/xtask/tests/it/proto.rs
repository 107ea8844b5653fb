//! The messages of gRPC, made from `proto/`. Here and not beside them, so that they can be made while what uses them
//! does not compile.

use std::path::{Path, PathBuf};

use prost_build::{Config, Service, ServiceGenerator};

const FILES: &[&str] = &["asof/v1/intake.proto"];
const GENERATED: &str = "crates/server/src/grpc/asof.v1.rs";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Of a service only the paths of its methods: the router has the rest.
struct Paths;

impl ServiceGenerator for Paths {
    fn generate(&mut self, service: Service, code: &mut String) {
        for method in service.methods {
            code.push_str(&format!(
                "/// The path of `{0}.{1}`.\npub const {2}_PATH: &str = \"/{3}.{0}/{1}\";\n",
                service.proto_name,
                method.proto_name,
                method.name.to_uppercase(),
                service.package,
            ));
        }
    }
}

fn generated() -> String {
    let files = protox::compile(FILES, [root().join("proto")]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut config = Config::new();
    config.bytes(["."]).service_generator(Box::new(Paths)).out_dir(out.path());
    config.compile_fds(files).unwrap();
    std::fs::read_to_string(out.path().join("asof.v1.rs")).unwrap()
}

#[test]
fn the_messages_of_grpc_are_what_proto_gives() {
    let committed = std::fs::read_to_string(root().join(GENERATED)).unwrap();
    assert!(
        committed == generated(),
        "{GENERATED} is not of this proto/: CONTRIBUTING.md says how it is made"
    );
}

#[test]
#[ignore = "writes the generated file"]
fn write_the_messages_of_grpc() {
    std::fs::write(root().join(GENERATED), generated()).unwrap();
}
