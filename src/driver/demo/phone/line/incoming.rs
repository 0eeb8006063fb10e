//! What a phone does with what it hears: answers to its requests, and requests of the other end.

use super::{
    super::{
        Ended,
        text::{self, Message},
    },
    Dialog, Line, Peer,
};

impl Line {
    pub(super) async fn handle(&mut self, message: Message, peer: Peer) {
        match message.status() {
            Some(status) => self.handle_response(message, status, peer).await,
            None => self.handle_request(message, peer).await,
        }
    }

    async fn handle_response(&mut self, response: Message, status: u16, peer: Peer) {
        let key = (response.branch().to_owned(), response.method().to_owned());
        let at = self.pending.iter().position(|p| p.key == key && p.message.status().is_none());
        if status < 200 {
            if let Some(pending) = at.and_then(|at| self.pending.get_mut(at)) {
                // RFC 3261 §17.1.1.2: an INVITE that is being worked on is not sent again.
                if key.1 == "INVITE" {
                    pending.next = pending.until;
                }
            }
            if status > 100 {
                self.change(|s| s.ringing = true);
            }
            return;
        }
        let Some(pending) = at.map(|at| self.pending.remove(at)) else {
            // A 2xx that comes again wants its ACK again (RFC 3261 §13.2.2.4).
            if key.1 == "INVITE"
                && status < 300
                && let Some(ack) = self.ack.clone()
            {
                self.send(&ack, peer).await;
            }
            return;
        };
        if let Some(done) = pending.done {
            let _ = done.send(status);
        }
        match key.1.as_str() {
            "INVITE" if status < 300 => self.established(&response, pending.peer).await,
            "INVITE" => {
                let invite = pending.message;
                // RFC 3261 §17.1.1.3: the ACK of a refusal is the transaction's.
                let mut ack = Message::new(invite.start.replacen("INVITE", "ACK", 1));
                for name in ["Via", "Max-Forwards", "From"] {
                    ack = ack.with(name, invite.header(name).unwrap_or_default());
                }
                let number = invite.header("CSeq").and_then(|c| c.split(' ').next()).unwrap_or("1").to_owned();
                let ack = ack
                    .with("To", response.header("To").unwrap_or_default())
                    .with("Call-ID", invite.header("Call-ID").unwrap_or_default())
                    .with("CSeq", format!("{number} ACK"));
                self.send(&ack, pending.peer).await;
                self.change(|s| s.refused = Some(status));
            }
            "BYE" => self.change(|s| s.ended = Some(Ended { by_me: true, reason: None })),
            _ => {}
        }
    }

    /// The 2xx to an INVITE of ours.
    async fn established(&mut self, response: &Message, peer: Peer) {
        let Some((invite, _)) = &self.invite else { return };
        let mut routes: Vec<String> = response.all("Record-Route").map(str::to_owned).collect();
        routes.reverse();
        self.dialog = Some(Dialog {
            call_id: invite.header("Call-ID").unwrap_or_default().into(),
            local: invite.header("From").unwrap_or_default().into(),
            remote: response.header("To").unwrap_or_default().into(),
            target: response.contact().map_or_else(|| invite.start.split(' ').nth(1).unwrap_or_default().to_owned(), str::to_owned),
            routes,
            sequence: 1,
            peer,
        });
        if let Some((ack, peer)) = self.in_dialog("ACK") {
            self.send(&ack, peer).await;
            self.ack = Some(ack);
        }
        if let Some((remote, agreed)) = text::agree(&response.body, &self.setup.codecs, self.setup.events) {
            self.agreed = Some(agreed);
            self.talk(remote, agreed);
            self.change(|s| s.agreed = Some(agreed));
        }
    }

    async fn handle_request(&mut self, request: Message, peer: Peer) {
        let key = (request.branch().to_owned(), request.method().to_owned());
        if let Some((_, response)) = self.given.iter().find(|(k, _)| *k == key) {
            let response = response.clone();
            self.send(&response, peer).await;
            return;
        }
        let ours = |line: &Self| line.dialog.as_ref().is_some_and(|d| Some(d.call_id.as_str()) == request.header("Call-ID"));
        let response = match request.method() {
            "ACK" => {
                // Ends the resending of our final response, whatever it was.
                self.pending.retain(|p| p.message.status().is_none());
                if let Some(agreed) = self.agreed {
                    self.change(|s| s.agreed = Some(agreed));
                }
                return;
            }
            "INVITE" if ours(self) => self.handle_reinvite(&request),
            "INVITE" if self.invite.is_some() => {
                // Its own retransmission, or a second call.
                let again = self.invite.as_ref().is_some_and(|(invite, _)| invite.branch() == request.branch());
                if again {
                    return;
                }
                request.respond(486, "Busy Here", &self.tag)
            }
            "INVITE" => {
                let trying = request.respond(100, "Trying", &self.tag);
                self.send(&trying, peer).await;
                self.invite = Some((request.clone(), peer));
                self.change(|s| s.invited = Some(request.headers));
                return;
            }
            "CANCEL" => {
                let ok = request.respond(200, "OK", &self.tag);
                self.send(&ok, peer).await;
                self.given.push((key, ok));
                if self.dialog.is_none() {
                    self.answer_invite(487, "Request Terminated").await;
                    self.change(|s| s.ended = Some(Ended { by_me: false, reason: None }));
                }
                return;
            }
            "OPTIONS" => request.respond(200, "OK", &self.tag),
            _ if !ours(self) => request.respond(481, "Call/Transaction Does Not Exist", &self.tag),
            "BYE" => {
                self.voice.quiet();
                let reason = request.header("Reason").map(str::to_owned);
                self.change(|s| s.ended = Some(Ended { by_me: false, reason }));
                request.respond(200, "OK", &self.tag)
            }
            "INFO" => {
                let signal =
                    request.body.lines().find_map(|l| l.trim().strip_prefix("Signal")).map(|l| l.trim_start_matches([' ', '=']).to_owned());
                let key = signal.and_then(|s| s.chars().next()).or_else(|| request.body.trim().chars().next());
                if let Some(key) = key.filter(|_| request.header("Content-Type").is_some_and(|t| t.contains("dtmf"))) {
                    self.change(|s| s.info_keys.push(key));
                }
                request.respond(200, "OK", &self.tag)
            }
            "NOTIFY" => {
                let line = request.body.lines().next().unwrap_or_default().to_owned();
                self.change(|s| s.notified.push(line));
                request.respond(200, "OK", &self.tag)
            }
            _ => request.respond(501, "Not Implemented", &self.tag),
        };
        self.send(&response, peer).await;
        self.given.push((key, response));
    }

    fn handle_reinvite(&mut self, request: &Message) -> Message {
        let codecs = self.agreed.map_or_else(|| self.setup.codecs.clone(), |a| vec![a.codec]);
        let offered = if request.body.is_empty() { None } else { text::agree(&request.body, &self.setup.codecs, self.setup.events) };
        if let Some(target) = request.contact()
            && let Some(dialog) = &mut self.dialog
        {
            target.clone_into(&mut dialog.target);
        }
        if !request.body.is_empty() && offered.is_none() {
            return request.respond(488, "Not Acceptable Here", &self.tag);
        }
        let mut codecs = codecs;
        if let Some((remote, agreed)) = offered {
            self.agreed = Some(agreed);
            self.talk(remote, agreed);
            codecs = vec![agreed.codec];
        }
        let events = self.agreed.and_then(|a| a.events);
        let sdp = text::session(self.voice.local(), &codecs, events, u64::from(self.chance.u32()));
        request.respond(200, "OK", &self.tag).with("Contact", self.contact()).with_body("application/sdp", sdp)
    }
}
