//! Access tokens: asked for one at a time, renewed before they end, and a rotated refresh token kept before anything else is sent.

use std::time::Duration;

use super::{Asked, NoAnswer, Output, Pipeline, lane::backoff};
use crate::{
    crm::{HttpAnswer, Token, Verdict},
    time::Now,
};

impl Pipeline {
    /// Asks for a token; one request at a time, since a refresh token may be good only once.
    pub(super) fn refresh(&mut self, now: Now, crm: &str) {
        let Some(lane) = self.lanes.get_mut(crm).filter(|l| !l.refreshing) else { return };
        lane.refreshing = true;
        let refresh_token = lane.refresh_token.clone();
        let Some(connector) = self.config.crm(crm).map(|c| &c.connector) else { return };
        let Some(oauth) = connector.oauth() else {
            return self.token_given(now, crm, Ok(Token::standing()));
        };
        let http = oauth.grant(&refresh_token, now.wall);
        let request = self.id();
        self.asked.insert(request, Asked::Token { crm: crm.to_owned() });
        self.outputs.push_back(Output::Send { request, crm: crm.to_owned(), http });
    }

    pub(super) fn token_answered(&mut self, now: Now, crm: &str, answer: Result<HttpAnswer, NoAnswer>) {
        let Some(oauth) = self.config.crm(crm).and_then(|c| c.connector.oauth()) else { return };
        let told = match answer {
            Ok(answer) => oauth.token(&answer),
            Err(NoAnswer { why, .. }) => Err(Verdict::Retry { after: None, why }),
        };
        self.token_given(now, crm, told);
    }

    fn token_given(&mut self, now: Now, crm: &str, told: Result<Token, Verdict>) {
        let jitter = u16::try_from(self.chance.below(1001)).unwrap_or(1000);
        let Some(lane) = self.lanes.get_mut(crm) else { return };
        lane.refreshing = false;
        match told {
            Ok(token) => {
                lane.refused = 0;
                lane.tokens = lane.tokens.saturating_add(1);
                lane.given = now.mono;
                lane.until = now.mono + token.expires.saturating_sub(EARLY).max(token.expires / 2);
                let rotated = token.refresh.clone();
                lane.token = Some(token);
                if let Some(token) = rotated.filter(|t| *t != lane.refresh_token) {
                    lane.refresh_token = token.clone();
                    self.outputs.push_back(Output::KeepToken { crm: crm.to_owned(), token });
                }
            }
            Err(verdict) => {
                lane.refused = lane.refused.saturating_add(1);
                let after = match &verdict {
                    Verdict::Throttled { after, .. } | Verdict::Retry { after, .. } | Verdict::Down { after, .. } => *after,
                    _ => Some(AUTH_PAUSE),
                };
                lane.pause(now.mono, after.unwrap_or_else(|| backoff(lane.refused, jitter)));
                tracing::warn!(crm, outcome = verdict.name(), "no access token; writes wait");
            }
        }
    }
}

/// A token is renewed so long before it ends, so that none ends under way.
const EARLY: Duration = Duration::from_secs(60);
/// A refused grant is a person's work; asked again so often.
pub(super) const AUTH_PAUSE: Duration = Duration::from_secs(30);
