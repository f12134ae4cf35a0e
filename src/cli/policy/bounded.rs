//! Programs that are run for so long and no longer.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Time between two looks at a program that is about to end.
const PAUSE: Duration = Duration::from_millis(1);

/// Runs a program, and ends it where it is not done within this time; `None` then. Programs that it has started itself are not ended.
pub fn output_within(command: &mut Command, limit: Duration) -> io::Result<Option<Output>> {
    let until = Instant::now() + limit;
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Both at once: a program waits for the reader of a pipe that is full.
    let (stdout, stderr) = (all_of(child.stdout.take()), all_of(child.stderr.take()));
    let left = || until.saturating_duration_since(Instant::now());
    let read = (stdout.recv_timeout(left()), stderr.recv_timeout(left()));
    if let (Ok(stdout), Ok(stderr)) = read
        && let Some(status) = ended(&mut child, until)?
    {
        return Ok(Some(Output { status, stdout: stdout?, stderr: stderr? }));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// How a program ended that has closed its pipes, as one does at its end; `None` where it goes on.
fn ended(child: &mut Child, until: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= until {
            return Ok(status);
        }
        thread::sleep(PAUSE);
    }
}

/// What a program writes, once it has closed the pipe.
fn all_of(pipe: Option<impl Read + Send + 'static>) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes));
        // There is no receiver any more where the time was over.
        let _ = sender.send(read.map(|_| bytes));
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(script: &str, limit: Duration) -> Option<Output> {
        output_within(Command::new("sh").args(["-c", script]), limit).unwrap()
    }

    #[test]
    fn what_a_program_says_is_read_whole_and_one_that_does_not_end_is_ended() {
        let said = ran("seq 1 50000; seq 1 50000 >&2; exit 3", Duration::from_mins(5)).unwrap();
        assert_eq!((said.status.code(), said.stdout.len(), said.stderr.len()), (Some(3), 288_894, 288_894));
        let started = Instant::now();
        for script in ["exec sleep 600", "exec sleep 600 >&- 2>&-"] {
            assert!(ran(script, Duration::from_millis(200)).is_none(), "{script}");
        }
        assert!(started.elapsed() < Duration::from_mins(5));
    }
}
