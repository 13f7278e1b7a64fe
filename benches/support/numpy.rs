//! The peer in Python: `numpy_diff.py` in a process of its own, which takes turns with what is measured here.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// The script, its data loaded.
pub struct Numpy {
    child: Child,
    /// `None` once there are no more turns.
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Numpy {
    /// Starts it; `None`, said on stderr, where there is no Python with numpy. It must find as many bytes as were explained.
    pub fn start(built: &[u8], memory: &[u8], writes: &[[u32; 3]], explained: u64) -> Option<Numpy> {
        let folder = std::env::temp_dir().join(format!("pvops-bench-numpy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the texts");
        let writes: Vec<u8> = writes.as_flattened().iter().flat_map(|word| word.to_le_bytes()).collect();
        for (name, bytes) in [("built", built), ("memory", memory), ("writes", &writes)] {
            std::fs::write(folder.join(name), bytes).expect("room for the texts");
        }
        let python = std::env::var_os("PVOPS_BENCH_PYTHON").unwrap_or_else(|| "python3".into());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/support/numpy_diff.py");
        let started = Command::new(&python)
            .arg(script)
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = started else {
            eprintln!("missing: {} (PVOPS_BENCH_PYTHON), to run numpy", python.display());
            let _ = std::fs::remove_dir_all(&folder);
            return None;
        };
        let asks = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut numpy = Numpy { child, asks, answers, folder };
        let found = numpy.answer();
        let Some((attributed, elsewhere)) = found.split_once(' ') else {
            eprintln!("missing: numpy for {} (the extra `bench`)", python.display());
            return None;
        };
        eprintln!("numpy: {attributed} bytes in writes of the plan, {elsewhere} elsewhere");
        let count = |word: &str| word.parse::<u64>().expect("a number");
        assert_eq!(count(attributed) + count(elsewhere), explained, "numpy finds other bytes changed");
        Some(numpy)
    }

    /// So many turns.
    pub fn turns(&mut self, n: u64) -> Duration {
        writeln!(self.asks.as_mut().expect("it is running"), "{n}").expect("it listens");
        Duration::from_nanos(self.answer().parse().expect("nanoseconds"))
    }

    /// Its next line; empty where it has ended.
    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("text");
        line.trim().to_owned()
    }
}

impl Drop for Numpy {
    fn drop(&mut self) {
        self.asks = None; // its input ends, and so does it
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
