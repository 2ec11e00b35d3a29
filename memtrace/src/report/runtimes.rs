//! What is and is not seen of a language runtime, in words.

use crate::profile::Runtime;

/// The sentence, with the command that shows the rest.
pub(super) fn sentence(pid: u32, runtime: Runtime) -> String {
    match runtime {
        Runtime::Python => format!(
            "process {pid} runs Python, which takes objects of up to 512 bytes from arenas of its own (pymalloc): not each of them is \
             seen here, only the arenas; started with PYTHONMALLOC=malloc, all are; -X perf (3.12) names functions of Python, tracemalloc \
             lines"
        ),
        Runtime::V8 => format!(
            "process {pid} runs JavaScript, whose objects are in a heap that V8 maps and collects: they are not seen here, buffers and \
             native code are; a heap snapshot shows them (node --heapsnapshot-signal=SIGUSR2, v8.writeHeapSnapshot()); --perf-basic-prof \
             names functions of JavaScript"
        ),
        Runtime::Jvm => format!(
            "process {pid} runs a JVM, which maps and collects its heap: objects of Java are not seen here, native memory is; `jcmd {pid} \
             GC.class_histogram` shows them, and `jcmd {pid} VM.native_memory` what the JVM itself uses \
             (-XX:NativeMemoryTracking=summary); -XX:+PreserveFramePointer and `jcmd {pid} Compiler.perfmap` name methods of Java"
        ),
        Runtime::Ruby => format!(
            "process {pid} runs Ruby, which keeps objects in slots of its own heap: those are not seen here, what is larger than a slot \
             is; ObjectSpace.dump_all (require \"objspace\") shows them"
        ),
    }
}
