//! The login password: sent at most once wrongly.
//!
//! What lives here: who may be sent it, when. What does not: where it comes from (cli, inventory) and the
//! conversation in which it is sent (auth).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::secret::{ExposeSecret as _, SecretString};

/// How many connections may end right behind the password, without a word, before it counts as refused:
/// some servers hang up instead of saying no.
const MOST_LOST: u32 = 2;

/// A password for logging in, shared by all hosts that it was given for. The first host proves it while the others
/// wait; after one host has refused it, it is sent to no host that has not taken it before: three
/// hosts with a typing error would be three steps to a locked account.
#[derive(Debug)]
pub struct LoginPassword {
    value: SecretString,
    state: Mutex<State>,
    first: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// Logins (`user@address:port`) that took it.
    taken: HashSet<String>,
    /// The first that did not.
    refused: Option<String>,
    /// How many connections ended behind it without an answer.
    lost: u32,
}

impl LoginPassword {
    /// A password that was not tried yet.
    pub fn new(value: SecretString) -> Arc<Self> {
        Arc::new(Self { value, state: Mutex::default(), first: Arc::default() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of it: `None` while nothing is.
    fn known(&self, login: &str) -> Option<Result<(), String>> {
        let state = self.state();
        match &state.refused {
            _ if state.taken.contains(login) => Some(Ok(())),
            Some(by) => Some(Err(by.clone())),
            None if !state.taken.is_empty() => Some(Ok(())),
            None => None,
        }
    }

    /// Who refused it, when it is not to be sent to `login`.
    pub(super) fn refused_for(&self, login: &str) -> Option<String> {
        self.known(login)?.err()
    }

    /// Leave to send it to `login`; waits while another host proves it. `Err` names the login that
    /// refused it.
    pub(super) async fn permit(self: &Arc<Self>, login: &str) -> Result<Permit, String> {
        let mut guard = None;
        if self.known(login).is_none() {
            let first = Arc::clone(&self.first).lock_owned().await;
            if self.known(login).is_none() {
                guard = Some(first);
            }
        }
        match self.known(login) {
            Some(Err(by)) => Err(by),
            _ => Ok(Permit { password: Arc::clone(self), login: login.to_owned(), open: false, _guard: guard }),
        }
    }
}

/// Leave to send a password to one login. Dropped without a verdict after it was sent, it counts as lost.
pub(super) struct Permit {
    password: Arc<LoginPassword>,
    login: String,
    /// It was sent, and what became of it is not known yet.
    open: bool,
    /// Others wait for this one.
    _guard: Option<OwnedMutexGuard<()>>,
}

impl Permit {
    /// The password, which is being sent now.
    pub(super) fn send(&mut self) -> String {
        self.open = true;
        self.password.value.expose_secret().to_owned()
    }

    /// The host took it.
    pub(super) fn taken(mut self) {
        self.open = false;
        self.password.state().taken.insert(self.login.clone());
    }

    /// The host did not take it.
    pub(super) fn refused(mut self) {
        self.open = false;
        self.password.state().refused.get_or_insert(self.login.clone());
    }

    /// The host asks for something else before it says: nothing is known.
    pub(super) fn unknown(mut self) {
        self.open = false;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.open {
            let mut state = self.password.state();
            state.lost += 1;
            if state.lost >= MOST_LOST {
                state.refused.get_or_insert(self.login.clone());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_refusal_is_the_last_try_for_all_who_have_not_taken_it() {
        let password = LoginPassword::new("x".into());
        let mut a = password.permit("a").await.unwrap();
        // Others wait as long as a proves it.
        let other = Arc::clone(&password);
        let waiting = tokio::spawn(async move { other.permit("b").await.err() });
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(!waiting.is_finished());
        a.send();
        a.refused();
        assert_eq!(waiting.await.unwrap().as_deref(), Some("a"));
        assert_eq!(password.permit("a").await.err().as_deref(), Some("a"));
    }

    #[tokio::test]
    async fn who_took_it_gets_it_again_after_another_refused() {
        let password = LoginPassword::new("x".into());
        password.permit("a").await.unwrap().taken();
        let (mut b, c) = (password.permit("b").await.unwrap(), password.permit("c").await.unwrap());
        b.send();
        b.refused();
        drop(c);
        assert!(password.permit("a").await.is_ok());
        assert_eq!(password.permit("c").await.err().as_deref(), Some("b"));
    }

    #[tokio::test]
    async fn lost_connections_let_others_try_but_not_for_ever() {
        let password = LoginPassword::new("x".into());
        // One that was never sent counts nothing.
        drop(password.permit("a").await.unwrap());
        for login in ["a", "b"] {
            let mut permit = password.permit(login).await.unwrap();
            permit.send();
        }
        assert_eq!(password.permit("c").await.err().as_deref(), Some("b"));
        assert!(!format!("{password:?}").contains("\"x\""));
    }
}
