//! Runtimes that generate code: the script or the managed program is to blame, not the runtime that runs it.

use super::path;
use crate::profile::Frame;

/// The file of code that was generated, as frames have it.
const GENERATED: &str = "[anon]";

/// Files of runtimes, by their names or how these begin. Another program that generates code is its author's own.
const PROGRAMS: [&str; 6] = ["node", "nodejs", "deno", "bun", "ruby", "luajit"];
const LIBRARIES: [&str; 6] = ["libnode.", "python3", "libpython3", "libruby", "libluajit", JVM];

/// The JVM, and files that come with it.
const JVM: &str = "libjvm.";
const JDK: [&str; 8] =
    ["libjava.", "libnio.", "libnet.", "libzip.", "libjimage.", "libverify.", "libmanagement", "libjli."];
/// Packages of Java's own, and those that are not for others to use.
const PACKAGES: [&str; 5] = ["java.", "javax.", "jdk.", "sun.", "com.sun."];
const INTERNAL_PACKAGES: [&str; 3] = ["jdk.internal.", "sun.", "com.sun."];
/// Where modules of node come from that are its own, and those that are not for others to use; the same of Python.
const NODE: &str = "node:";
const INTERNAL_NODE: &str = "node:internal/";
const FROZEN: &str = "<frozen ";
const PYTHON: &str = "/lib/python3";
const PACKAGED: [&str; 2] = ["/site-packages/", "/dist-packages/"];
const EXTENSIONS: &str = "/lib-dynload/";

/// The runtime of a stack with generated code.
pub(super) struct Runtime<'a> {
    /// Its files. Empty if there is no generated code to blame.
    files: Vec<&'a str>,
    is_jvm: bool,
    own: Own,
}

/// How much of the generated code is the runtime's own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    /// The modules that come with it.
    Modules,
    /// Only those that are not for others to call: there is no other code to blame.
    Internals,
}

impl<'a> Runtime<'a> {
    /// Of a stack, innermost frame first.
    pub(super) fn of(frames: &[Frame<'a>]) -> Self {
        let named = || frames.iter().filter(|frame| is_generated(frame) && frame.function.is_some());
        let mut files = Vec::new();
        if named().next().is_some() {
            for file in frames.iter().map(Frame::file_name).filter(|file| is_runtime(file)) {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        let is_jvm = files.iter().any(|file| file.starts_with(JVM));
        let mut runtime = Self { files, is_jvm, own: Own::Modules };
        if named().all(|frame| runtime.has(frame)) {
            runtime.own = Own::Internals;
        }
        if named().all(|frame| runtime.has(frame)) {
            runtime.files.clear();
        }
        runtime
    }

    /// Whether a frame is the runtime's own.
    pub(super) fn has(&self, frame: &Frame<'_>) -> bool {
        if self.files.is_empty() {
            return false;
        }
        if !is_generated(frame) {
            let file = frame.file_name();
            return self.files.contains(&file)
                || frame.module.contains(EXTENSIONS)
                || self.is_jvm && JDK.iter().any(|name| file.starts_with(name));
        }
        let Some(function) = frame.function else { return true };
        let (packages, modules) = match self.own {
            Own::Modules => (&PACKAGES[..], NODE),
            Own::Internals => (&INTERNAL_PACKAGES[..], INTERNAL_NODE),
        };
        if self.is_jvm {
            // Methods are named with their class; stubs are not. libperf-jvmti writes `Lapp/Cart;keep(I)V`.
            let path = match function.strip_prefix('L').filter(|name| name.contains(';')) {
                Some(name) => name.replace('/', "."),
                None => path(function).into_owned(),
            };
            return !path.contains('.') || packages.iter().any(|package| path.starts_with(package));
        }
        frame.file.is_some_and(|file| {
            let is_packaged = PACKAGED.iter().any(|part| file.contains(part));
            let is_of_python = file.starts_with(FROZEN) || file.contains(PYTHON) && !is_packaged;
            file.starts_with(modules) || is_of_python && self.own == Own::Modules
        })
    }
}

fn is_runtime(file: &str) -> bool {
    PROGRAMS.contains(&file) || LIBRARIES.iter().any(|begin| file.starts_with(begin))
}

/// What frames of a runtime are part of, for people: `node`, `libjvm.so`.
pub(super) fn name<'a>(frames: &[Frame<'a>]) -> &'a str {
    let native = frames.iter().rev().find(|frame| !is_generated(frame));
    native.map_or("the runtime", Frame::file_name)
}

fn is_generated(frame: &Frame<'_>) -> bool {
    frame.module == GENERATED
}

#[cfg(test)]
mod tests {
    use crate::profile::Frame;
    use crate::report::blame::{Part, culprit};
    use crate::report::tests::named;

    /// Frames by function and file: a source file, or a module.
    fn stack(frames: &[(&'static str, &'static str)]) -> Vec<Frame<'static>> {
        let frame = |&(function, file): &(&'static str, &'static str)| match file.strip_prefix('@') {
            Some(module) => named(function, module),
            None => Frame { file: Some(file), ..named(function, "[anon]") },
        };
        frames.iter().map(frame).collect()
    }

    #[test]
    fn scripts_are_to_blame_and_not_what_runs_them() {
        const NODE: &str = "@/usr/bin/node";
        const JVM: &str = "@/usr/lib/jvm/lib/server/libjvm.so";
        const PYTHON: &str = "@/usr/lib/libpython3.12.so.1.0";
        for (frames, place) in [
            (
                &[
                    ("node::NodeArrayBufferAllocator::AllocateUninitialized(unsigned long)", NODE),
                    ("Builtins_CEntry_Return1_ArgvOnStack_BuiltinExit", NODE),
                    ("createUnsafeBuffer", "node:internal/buffer"),
                    ("allocUnsafeSlow", "node:buffer"),
                    ("retain", "/srv/app.js"),
                    ("(anonymous)", "/srv/app.js"),
                    ("listOnTimeout", "node:internal/timers"),
                    ("Builtins_JSEntry", NODE),
                    ("node::Start(int, char**)", NODE),
                ][..],
                4,
            ),
            // An addon is somebody's own code.
            (
                &[
                    ("keep_row", "@/srv/node_modules/db/build/addon.node"),
                    ("v8::internal::FunctionCallbackArguments::Call(v8::internal::CallHandlerInfo)", NODE),
                    ("query", "/srv/app.js"),
                    ("Builtins_JSEntry", NODE),
                ],
                0,
            ),
            // Nobody else is there, or is known: a stack that ends too early.
            (
                &[
                    ("v8::internal::Zone::New(unsigned long)", NODE),
                    ("createUnsafeBuffer", "node:internal/buffer"),
                    ("allocUnsafeSlow", "node:buffer"),
                    ("Builtins_JSEntry", NODE),
                ],
                2,
            ),
            (&[("v8::internal::Zone::New(unsigned long)", NODE), ("emit", "node:internal/timers")], 0),
            (
                &[
                    ("os::malloc(unsigned long, MemTag)", JVM),
                    ("jdk.internal.misc.Unsafe.allocateMemory0(long)", "@[anon]"),
                    ("void java.nio.DirectByteBuffer.<init>(int)", "@[anon]"),
                ],
                2,
            ),
            (
                &[
                    ("os::malloc(unsigned long, MemTag)", JVM),
                    ("jdk.internal.misc.Unsafe.allocateMemory0(long)", "@[anon]"),
                    ("java.nio.ByteBuffer java.nio.ByteBuffer.allocateDirect(int)", "@[anon]"),
                    ("void Leak.handle(int)", "@[anon]"),
                    ("void Leak.main(java.lang.String[])", "@[anon]"),
                    ("StubRoutines (initialstubs)", "@[anon]"),
                    ("JavaCalls::call_helper(JavaValue*, methodHandle const&)", JVM),
                ],
                3,
            ),
            (
                &[
                    ("os::malloc(unsigned long, MemTag)", JVM),
                    ("Ljava/nio/DirectByteBuffer;<init>(I)V", "@[anon]"),
                    ("Lapp/Cart;keep(I)V", "@[anon]"),
                    ("Interpreter", "@[anon]"),
                ],
                2,
            ),
            (
                &[
                    ("deflateInit2_", "@/usr/lib/jvm/lib/libzip.so"),
                    ("void java.util.zip.Deflater.init(int)", "@[anon]"),
                    ("void app.Pack.pack()", "@[anon]"),
                    ("JavaCalls::call_helper(JavaValue*, methodHandle const&)", JVM),
                ],
                2,
            ),
            (
                &[
                    ("PyByteArray_Resize", PYTHON),
                    ("_PyEval_EvalFrameDefault", PYTHON),
                    ("loads", "/usr/lib/python3.12/json/__init__.py"),
                    ("py_trampoline_evaluator", PYTHON),
                    ("retain", "/usr/lib/python3.12/site-packages/app/keep.py"),
                    ("py_trampoline_evaluator", PYTHON),
                    ("Py_RunMain", PYTHON),
                ],
                4,
            ),
            // A program with an engine of its own.
            (
                &[
                    ("keep_row", "@/srv/browser"),
                    ("query", "/srv/app.js"),
                    ("Builtins_JSEntry", "@/srv/browser"),
                ],
                0,
            ),
            // Without names of generated code it is as ever.
            (&[("PyByteArray_Resize", PYTHON), ("_PyEval_EvalFrameDefault", PYTHON)], 0),
        ] {
            assert_eq!(culprit(&stack(frames)), Some(place), "{frames:?}");
        }
    }

    #[test]
    fn a_runtime_is_named_by_its_file() {
        let frames = stack(&[
            ("Builtins_JSEntry", "@/usr/bin/node"),
            ("retain", "/srv/app.js"),
            ("listOnTimeout", "node:internal/timers"),
            ("node::Start(int, char**)", "@/usr/bin/node"),
        ]);
        let parts: Vec<Part> = Part::all(&frames).collect();
        assert_eq!(parts, [Part::Runtime, Part::Code, Part::Runtime, Part::Runtime]);
        assert_eq!(super::name(&frames[2..]), "node");
        assert_eq!(super::name(&frames[2..3]), "the runtime");
    }
}
