use memtrace::{allocators, elf::Image, model::Results};
fn main() {
    for path in std::env::args().skip(1) {
        let p = std::path::Path::new(&path);
        let image = Image::open(p).unwrap();
        for spare in [false, true] {
            match allocators::find(&image, p, &path, spare) {
                Ok(found) => {
                    println!("== {path} {} spare={spare}", found.name);
                    for spec in &found.specs {
                        if let Results::AtExits(sites) = &spec.results {
                            println!("{} entry {:#x}", spec.function, spec.offset);
                            for s in sites {
                                println!("    {:x?}", s);
                            }
                        } else {
                            println!("{} {:?}", spec.function, spec.results);
                        }
                    }
                    println!("left out {:?}\nnotes {:?}", found.left_out, found.notes);
                }
                Err(e) => println!("{path}: {e}"),
            }
        }
    }
}
