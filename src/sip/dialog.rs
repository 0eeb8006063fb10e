//! A dialog (RFC 3261 §12): what makes requests belong together, kept by either end.

use super::{
    message::{Error, Method, NameAddr, Request, Response},
    uri::Uri,
};

/// One established or early dialog, seen from this end.
#[derive(Clone, Debug)]
pub struct Dialog {
    call_id: String,
    local: NameAddr,
    remote: NameAddr,
    /// Where requests go in the end: the peer's Contact.
    remote_target: Uri,
    route_set: Vec<String>,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    /// Our own Contact, told in each request that may refresh the target.
    contact: Uri,
}

impl Dialog {
    /// As the caller: from our INVITE and a response with a To tag (§12.1.2).
    ///
    /// # Errors
    /// The response lacks what a dialog needs.
    pub fn caller(invite: &Request, response: &Response, contact: Uri) -> Result<Self, Error> {
        let remote = response.to()?;
        if remote.tag().is_none() {
            return Err(Error::bad("a response without a To tag makes no dialog (RFC 3261 §12.1)"));
        }
        let remote_target = response.contact().map_or_else(|| invite.uri.clone(), |c| c.uri);
        let mut route_set: Vec<String> = response.headers.values("Record-Route").map(str::to_owned).collect();
        route_set.reverse();
        let (local_cseq, _) = invite.cseq()?;
        Ok(Self {
            call_id: invite.call_id().to_owned(),
            local: invite.from()?,
            remote,
            remote_target,
            route_set,
            local_cseq,
            remote_cseq: None,
            contact,
        })
    }

    /// As the callee: from the INVITE that came and the tag that we give (§12.1.1).
    ///
    /// # Errors
    /// The INVITE has no Contact, or something of it cannot be read.
    pub fn callee(invite: &Request, tag: &str, contact: Uri) -> Result<Self, Error> {
        let peer = invite.contact().ok_or_else(|| Error::bad("an INVITE without a readable Contact (RFC 3261 §8.1.1.8)"))?;
        Ok(Self {
            call_id: invite.call_id().to_owned(),
            local: invite.to()?.with_tag(tag),
            remote: invite.from()?,
            remote_target: peer.uri,
            route_set: invite.headers.values("Record-Route").map(str::to_owned).collect(),
            local_cseq: 0,
            remote_cseq: Some(invite.cseq()?.0),
            contact,
        })
    }

    /// The SIP Call-ID.
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Our tag.
    pub fn local_tag(&self) -> &str {
        self.local.tag().unwrap_or_default()
    }

    /// The peer's tag.
    pub fn remote_tag(&self) -> &str {
        self.remote.tag().unwrap_or_default()
    }

    /// Our Contact.
    pub fn contact(&self) -> &Uri {
        &self.contact
    }

    /// The URI whose host and port the next request goes to: the first route, else the peer's Contact (§12.2.1.1).
    pub fn next_hop(&self) -> Uri {
        let first = self.route_set.first().and_then(|r| NameAddr::parse(r).ok()).map(|r| r.uri);
        first.unwrap_or_else(|| self.remote_target.clone())
    }

    /// Whether proxies stand between (Record-Route was heard).
    pub fn is_routed(&self) -> bool {
        !self.route_set.is_empty()
    }

    /// A request within the dialog, with the next CSeq (§12.2.1.1).
    pub fn request(&mut self, method: Method) -> Request {
        self.local_cseq = self.local_cseq.saturating_add(1);
        self.build(method, self.local_cseq)
    }

    /// The ACK to a 2xx: the INVITE's CSeq number (§13.2.2.4).
    pub fn ack(&self, invite_cseq: u32) -> Request {
        self.build(Method::ACK, invite_cseq)
    }

    fn build(&self, method: Method, cseq: u32) -> Request {
        let first = self.route_set.first().and_then(|r| NameAddr::parse(r).ok()).map(|r| r.uri);
        // §12.2.1.1: a first route without `lr` is a strict router and takes the Request-URI's place.
        let strict = first.filter(|uri| uri.param("lr").is_none());
        let uri = strict.clone().unwrap_or_else(|| self.remote_target.clone());
        let mut request = Request::new(method.clone(), uri.without_headers());
        let routes = self.route_set.iter().skip(usize::from(strict.is_some()));
        for route in routes {
            request.headers.push("Route", route.clone());
        }
        if strict.is_some() {
            request.headers.push("Route", format!("<{}>", self.remote_target));
        }
        request.headers.push("Max-Forwards", "70");
        request.headers.push("From", self.local.to_string());
        request.headers.push("To", self.remote.to_string());
        request.headers.push("Call-ID", self.call_id.clone());
        request.headers.push("CSeq", format!("{cseq} {method}"));
        if matches!(method, Method::INVITE | Method::REFER | Method::UPDATE | Method::NOTIFY) {
            request.headers.push("Contact", format!("<{}>", self.contact));
        }
        request
    }

    /// Takes a response to a request that may refresh the target (§12.2.1.2).
    pub fn refresh(&mut self, response: &Response) {
        if let Some(contact) = response.contact() {
            self.remote_target = contact.uri;
        }
    }

    /// Looks at a request that came for this dialog: its CSeq must go up (§12.2.2), a new Contact of a re-INVITE is taken.
    ///
    /// # Errors
    /// 500 for a lower CSeq.
    pub fn check(&mut self, request: &Request) -> Result<(), Error> {
        let (number, _) = request.cseq()?;
        if self.remote_cseq.is_some_and(|last| number <= last) {
            return Err(Error { status: 500, why: format!("CSeq {number} is not above the last one of this dialog (RFC 3261 §12.2.2)") });
        }
        self.remote_cseq = Some(number);
        if matches!(request.method, Method::INVITE | Method::UPDATE)
            && let Some(contact) = request.contact()
        {
            self.remote_target = contact.uri;
        }
        Ok(())
    }

    /// Whether a request's tags and Call-ID are this dialog's (§12.2.2).
    pub fn is_of(&self, request: &Request) -> bool {
        let tag = |a: Result<NameAddr, Error>| a.ok().and_then(|a| a.tag().map(str::to_owned)).unwrap_or_default();
        request.call_id() == self.call_id && tag(request.to()) == self.local_tag() && tag(request.from()) == self.remote_tag()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::Message;

    fn invite() -> Request {
        let text = "INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=f\r\nTo: <sip:b@x>\r\nCall-ID: c\r\nCSeq: 5 INVITE\r\n\
            Contact: <sip:a@192.0.2.1>\r\nRecord-Route: <sip:p1;lr>, <sip:p2;lr>\r\n\r\n";
        match Message::parse(text.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_callee_sends_along_the_record_route_as_heard() {
        let mut dialog = Dialog::callee(&invite(), "t", "sip:gw@192.0.2.9".parse().expect("a URI")).expect("a dialog");
        let bye = dialog.request(Method::BYE);
        assert_eq!(bye.uri.to_string(), "sip:a@192.0.2.1");
        assert_eq!(bye.headers.all("Route").collect::<Vec<_>>(), ["<sip:p1;lr>", "<sip:p2;lr>"]);
        assert_eq!((bye.from().expect("from").tag(), bye.to().expect("to").tag()), (Some("t"), Some("f")));
        assert_eq!(dialog.next_hop().to_string(), "sip:p1;lr");
    }

    #[test]
    fn the_caller_sends_along_the_record_route_backwards() {
        let mut answer = invite().response(200, None, Some("t"));
        answer.headers.push("Contact", "<sip:b@192.0.2.2>");
        let mut dialog = Dialog::caller(&invite(), &answer, "sip:a@x".parse().expect("a URI")).expect("a dialog");
        let bye = dialog.request(Method::BYE);
        assert_eq!(bye.headers.all("Route").collect::<Vec<_>>(), ["<sip:p2;lr>", "<sip:p1;lr>"]);
        assert_eq!(bye.cseq().expect("cseq"), (6, Method::BYE));
        assert_eq!(dialog.ack(5).cseq().expect("cseq"), (5, Method::ACK));
    }

    #[test]
    fn a_cseq_that_does_not_go_up_is_refused_with_500() {
        let mut dialog = Dialog::callee(&invite(), "t", "sip:gw@x".parse().expect("a URI")).expect("a dialog");
        assert_eq!(dialog.check(&invite()).expect_err("the same CSeq again").status, 500);
        let mut next = invite();
        next.headers.set("CSeq", "6 INVITE");
        assert_eq!(dialog.check(&next), Ok(()));
    }
}
