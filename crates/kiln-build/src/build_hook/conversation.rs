//! Asking the hook, and understanding the answer.

use std::time::Duration;

use kiln_events::{
    ActivityId, BuilderActivities, EventSender, Handling, LogTail, RecordSource, Text, Verbosity,
};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::process::{HookChild, HookProcess, Messages, describe};

/// How long a hook may say nothing at all before it has answered. It tells of each machine that it tries, and of none does
/// it take so long to find that it can't be reached.
const PATIENCE: Duration = Duration::from_secs(600);

/// How much a hook may say before it has answered, in bytes.
const MOST_SAID: u64 = 16 << 20;

/// How long a hook that has closed its output may take to end.
const END: Duration = Duration::from_secs(1);

/// How much of what a hook has said is repeated when it has died: lines, bytes.
const TAIL: (usize, usize) = (10, 4 << 10);

/// What the hook answers.
#[derive(Debug)]
pub(super) enum Reply {
    Accept(Box<Accepted>),
    Decline(HookProcess),
    DeclinePermanently,
    Postpone(HookProcess),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConversationError {
    #[error("build hook died unexpectedly: {}", .0.to_str_lossy())]
    Died(Text),
    #[error("build hook killed: it has not answered, and said nothing for {} seconds", PATIENCE.as_secs())]
    Silent,
    #[error("build hook killed: it has said more than {MOST_SAID} bytes, but not answered")]
    Chatty,
    #[error("bad hook reply '{}'", .0.to_str_lossy())]
    BadReply(Text),
}

/// A hook that has accepted a build. The process is that build's from now on; dropping this kills it.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// What the machine is called: the URI of its store.
    pub(crate) machine: Text,
    pub(super) input: Option<pipe::Sender>,
    pub(super) messages: Messages,
    pub(super) log: pipe::Receiver,
    pub(super) child: HookChild,
}

/// Sends a request to a hook and waits for its answer. A hook that gives none is killed. What it says besides is told.
pub(super) async fn ask(
    mut hook: HookProcess,
    request: &[u8],
    events: &EventSender,
) -> Result<Reply, ConversationError> {
    let records = BuilderActivities::new(events.clone(), ActivityId::NONE, RecordSource::BuildHook);
    let tail = LogTail::new(TAIL.0, TAIL.1);
    hook.messages.set_budget(MOST_SAID);
    let mut conversation = Conversation { hook, unsent: request, records, tail, events };
    let reply = loop {
        let line = conversation.next_line().await?;
        match line.strip_prefix(b"# ") {
            Some(reply) => break reply.to_vec(),
            None => conversation.tell(&line),
        }
    };
    match &reply[..] {
        b"decline" => Ok(Reply::Decline(conversation.hook)),
        b"postpone" => Ok(Reply::Postpone(conversation.hook)),
        b"decline-permanently" => Ok(Reply::DeclinePermanently),
        b"accept" => {
            let machine = conversation.next_line().await?.into();
            let HookProcess { input, mut messages, log, child } = conversation.hook;
            messages.set_budget(u64::MAX);
            let log = pipe::Receiver::from_owned_fd(log)
                .map_err(|error| ConversationError::Died(error.to_string().into()))?;
            Ok(Reply::Accept(Box::new(Accepted { machine, input, messages, log, child })))
        }
        _ => Err(ConversationError::BadReply(reply.into())),
    }
}

struct Conversation<'a> {
    hook: HookProcess,
    /// What of the request is still to be sent.
    unsent: &'a [u8],
    records: BuilderActivities,
    tail: LogTail,
    events: &'a EventSender,
}

impl Conversation<'_> {
    /// The hook's next line, while the request is sent to it.
    async fn next_line(&mut self) -> Result<Vec<u8>, ConversationError> {
        loop {
            let line = tokio::select! {
                line = timeout(PATIENCE, self.hook.messages.next()) => line,
                written = send(&mut self.hook.input, self.unsent), if !self.unsent.is_empty() => {
                    self.unsent = self.unsent.get(written..).unwrap_or_default();
                    continue;
                }
            };
            let Ok(line) = line else { return Err(ConversationError::Silent) };
            return match line {
                Some(line) => Ok(line),
                None if self.hook.messages.is_too_much() => Err(ConversationError::Chatty),
                None => Err(self.death().await),
            };
        }
    }

    /// Tells a line that is no answer.
    fn tell(&mut self, line: &[u8]) {
        if self.records.handle(line) != Handling::Handled {
            self.tail.push(line);
            self.events.message(Verbosity::Error, line.to_vec());
        }
    }

    /// What is to say of a hook that has closed its output without an answer.
    async fn death(&mut self) -> ConversationError {
        let ended = timeout(END, self.hook.child.wait()).await;
        let mut text = match ended {
            Ok(status) => describe(status),
            Err(_) => "it has closed its output".to_owned(),
        }
        .into_bytes();
        for (index, line) in self.tail.lines().enumerate() {
            text.extend_from_slice(if index == 0 { b": " } else { b"\n" });
            text.extend_from_slice(line.as_bytes());
        }
        ConversationError::Died(text.into())
    }
}

/// Sends some of the bytes, and says how many. A hook that doesn't listen any more is sent nothing: what it says, or the
/// end of that, tells what has become of it.
pub(super) async fn send(input: &mut Option<pipe::Sender>, bytes: &[u8]) -> usize {
    let Some(open) = input else { return bytes.len() };
    match open.write(bytes).await {
        Ok(written) if written > 0 => written,
        _ => {
            *input = None;
            bytes.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::Command;
    use super::*;
    use kiln_events::{CollectingSink, Event, Message};
    use std::ffi::CString;
    use std::sync::Arc;
    use tokio::time::Instant;

    /// A hook that is a shell script, and whose file of words is its first argument.
    fn hook(script: &str, file: &str) -> HookProcess {
        let arguments = ["sh", "-c", script, "sh", file].map(|argument| CString::new(argument).unwrap());
        let environment = vec![c"PATH=/usr/bin:/bin".to_owned()];
        let command = Command { program: c"/bin/sh".to_owned(), arguments: arguments.into(), environment };
        HookProcess::start(&command).unwrap()
    }

    #[tokio::test]
    async fn h1_h2_what_nix_says_is_understood() {
        let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/src/build_hook/data/nix-2.34.8-says");
        let sink = Arc::new(CollectingSink::new());
        // It answers when it has read the question, as hooks do.
        let script = "question=$(head -c 8); cat $1; echo $question";
        let reply = ask(hook(script, recorded), b"question", &EventSender::new(sink.clone())).await;
        let Ok(Reply::Accept(mut accepted)) = reply else { panic!("{reply:?}") };
        let machine = "ssh-ng://localhost?remote-program=/usr/local/bin/tapdaemon&remote-store=local?root%3D/share/remote";
        assert_eq!(accepted.machine, machine);
        // What was read along with the answer is not lost, and what it is told comes back.
        let mut lines = Vec::new();
        accepted.input = None;
        while let Some(line) = accepted.messages.next().await {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines.last().unwrap(), "question");
        lines.pop();
        assert!(lines.len() > 30 && lines.iter().all(|line| line.starts_with("@nix {")), "{lines:?}");
        let events = sink.take();
        assert!(matches!(&events[..], [Event::Start { .. }, Event::Stop { .. }]), "connecting: {events:?}");
    }

    #[tokio::test]
    async fn h1_a_question_of_any_length_is_asked() {
        let request = vec![b'x'; 1 << 20];
        let sink = Arc::new(CollectingSink::new());
        // It says much before it listens.
        let script =
            "yes line | head -n 100000; echo $(head -c 1048576 | wc -c); echo '# decline'; sleep 1000";
        let reply = ask(hook(script, ""), &request, &EventSender::new(sink.clone())).await;
        assert!(matches!(reply, Ok(Reply::Decline(_))), "{reply:?}");
        let events = sink.take();
        let said =
            |text: &str| Event::Message { level: Verbosity::Error, message: Message::Text(text.into()) };
        assert_eq!((events.len(), &events[100_000]), (100_001, &said("1048576")));
    }

    #[tokio::test(start_paused = true)]
    async fn h1_a_hook_that_falls_silent_is_killed() {
        let start = Instant::now();
        let hook = hook("sleep 1000", "");
        let pid = hook.child.pid();
        let reply = ask(hook, b"question", &EventSender::null()).await;
        assert!(matches!(reply, Err(ConversationError::Silent)), "{reply:?}");
        assert_eq!(start.elapsed(), PATIENCE);
        // Time does not stand still for who ends.
        while rustix::process::test_kill_process(pid).is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
