//! Alerts to chats: what a message looks like to each product, and how it is delivered.
//!
//! Inputs: a [`Message`] and a [`Chat`]. What is told, and whether it was told before, is decided by whoever sends.

mod payload;
mod send;

pub use payload::payload;
pub use send::{HttpChats, SendError};

use futures::future::BoxFuture;

use crate::http::{Address, AddressError};

/// Delivers messages.
pub trait Chats: Send + Sync {
    /// An address that somebody wrote and that may be called.
    ///
    /// # Errors
    /// When it is none, or leads to the machine itself.
    fn address(&self, text: &str) -> Result<Address, AddressError>;

    /// Sends a message.
    ///
    /// # Errors
    /// If it is not delivered; then it may be sent again.
    fn send<'a>(&'a self, chat: &'a Chat, message: &'a Message) -> BoxFuture<'a, Result<(), SendError>>;
}

/// A chat product, by AlertProvider's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Slack, by an incoming webhook or a bot's token.
    Slack,
    /// Microsoft Teams.
    Teams,
    /// Discord.
    Discord,
    /// Rocket.Chat.
    Rocket,
    /// Google Chat.
    Google,
}

impl Product {
    /// The product that an AlertProvider's `type` names.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "slack" => Self::Slack,
            "msteams" => Self::Teams,
            "discord" => Self::Discord,
            "rocket" => Self::Rocket,
            "gchat" => Self::Google,
            _ => return None,
        })
    }
}

/// Where a message goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Chat {
    /// The product.
    pub product: Product,
    /// Its address, which is a secret.
    pub address: Address,
    /// The channel, where the product takes one.
    pub channel: Option<String>,
    /// The name that is shown.
    pub username: Option<String>,
    /// A bot's token.
    pub token: Option<String>,
    /// An HTTP proxy.
    pub proxy: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// News.
    Info,
    /// Somebody is waited for.
    Warn,
    /// A release failed.
    Error,
}

impl Severity {
    /// Flagger's colours, as `#rrggbb` without the number sign.
    fn color(self) -> &'static str {
        match self {
            Self::Info => "36a64f",
            Self::Warn => "daa038",
            Self::Error => "a30200",
        }
    }
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// How bad it is.
    pub severity: Severity,
    /// Whom it is about: `podinfo.test`.
    pub about: String,
    /// One sentence.
    pub text: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}
