//! Writes down in a binary of the feature `tch` where libtorch lay at the build, so that it starts without
//! `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // From torch-sys, on which nothing but that feature depends. Windows has no such note in its binaries.
    let folder = std::env::var("DEP_TCH_LIBTORCH_LIB");
    if let (Ok(folder), Ok(_)) = (folder, std::env::var("CARGO_CFG_UNIX")) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
