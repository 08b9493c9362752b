//! The body that each product takes. PURE.

use serde_json::{Value, json};

use super::{Chat, Message, Product, Severity};

/// The name that is shown where an AlertProvider gives none.
const USERNAME: &str = "serin";
/// Hosts of Teams' former webhooks, which take cards of the former kind; workflows take adaptive cards.
const TEAMS_CONNECTORS: [&str; 2] = ["webhook.office.com", "outlook.office.com"];

/// The JSON that a message is for a chat.
pub fn payload(chat: &Chat, message: &Message) -> Value {
    match chat.product {
        // Discord takes Slack's form at an address of its own.
        Product::Slack | Product::Rocket | Product::Discord => attachments(chat, message),
        Product::Teams => {
            let host = chat.address.url().host_str().unwrap_or_default();
            let is_connector =
                TEAMS_CONNECTORS.iter().any(|known| host == *known || host.ends_with(&format!(".{known}")));
            if is_connector { message_card(message) } else { adaptive_card(message) }
        }
        Product::Google => json!({"text": lines(message)}),
    }
}

fn attachments(chat: &Chat, message: &Message) -> Value {
    let Message { severity, about, text, fields } = message;
    let fields: Vec<Value> =
        fields.iter().map(|(name, value)| json!({"title": name, "value": value, "short": false})).collect();
    let mut body = json!({
        "username": chat.username.as_deref().unwrap_or(USERNAME),
        "attachments": [{
            "color": format!("#{}", severity.color()),
            "author_name": about,
            "fallback": format!("{about}: {text}"),
            "text": text,
            "mrkdwn_in": ["text"],
            "fields": fields,
        }],
    });
    if let Some(channel) = &chat.channel {
        body["channel"] = json!(channel);
    }
    body
}

fn message_card(message: &Message) -> Value {
    let Message { severity, about, text, fields } = message;
    let facts: Vec<Value> = fields.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    json!({
        "@type": "MessageCard",
        "@context": "http://schema.org/extensions",
        "themeColor": severity.color(),
        "summary": about,
        "sections": [{"activityTitle": text, "activitySubtitle": about, "facts": facts}],
    })
}

fn adaptive_card(message: &Message) -> Value {
    let Message { severity, about, text, fields } = message;
    let color = match severity {
        Severity::Info => "Good",
        Severity::Warn => "Warning",
        Severity::Error => "Attention",
    };
    let facts: Vec<Value> = fields.iter().map(|(name, value)| json!({"title": name, "value": value})).collect();
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "text": text, "weight": "Bolder", "wrap": true, "color": color},
            {"type": "TextBlock", "text": about, "isSubtle": true, "spacing": "None"},
            {"type": "FactSet", "facts": facts},
        ],
    });
    json!({
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    })
}

fn lines(message: &Message) -> String {
    let Message { severity: _, about, text, fields } = message;
    let fields: String = fields.iter().map(|(name, value)| format!("\n{name}: {value}")).collect();
    format!("*{about}* {text}{fields}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Address;

    fn chat(product: Product, address: &str) -> Chat {
        let address = Address::parse(address).unwrap();
        Chat { product, address, channel: Some("#ops".into()), username: None, token: None, proxy: None }
    }

    fn message() -> Message {
        Message {
            severity: Severity::Error,
            about: "podinfo.test".into(),
            text: "Rolled back".into(),
            fields: vec![("Target".into(), "Deployment/podinfo.test".into())],
        }
    }

    #[test]
    fn every_product_gets_the_sentence_its_subject_and_the_fields() {
        for (product, address) in [
            (Product::Slack, "https://hooks.slack.com/services/x"),
            (Product::Rocket, "https://chat.example.com/hooks/x"),
            (Product::Discord, "https://discord.com/api/webhooks/x"),
            (Product::Teams, "https://example.webhook.office.com/x"),
            (Product::Teams, "https://prod.westeurope.logic.azure.com/workflows/x"),
            (Product::Google, "https://chat.googleapis.com/v1/spaces/x"),
        ] {
            let text = payload(&chat(product, address), &message()).to_string();
            for part in ["podinfo.test", "Rolled back", "Target", "Deployment/podinfo.test"] {
                assert!(text.contains(part), "{product:?}: {text}");
            }
            assert!(!text.contains(address), "the address is a secret");
        }
    }

    #[test]
    fn slacks_form_names_channel_and_color() {
        let body = payload(&chat(Product::Slack, "https://hooks.slack.com/x"), &message());
        assert_eq!((&body["channel"], &body["username"]), (&json!("#ops"), &json!("serin")));
        assert_eq!(body["attachments"][0]["color"], "#a30200");
        assert_eq!(body["attachments"][0]["fields"][0]["title"], "Target");
    }

    #[test]
    fn teams_gets_the_card_that_its_address_takes() {
        let old = payload(&chat(Product::Teams, "https://acme.webhook.office.com/x"), &message());
        assert_eq!(old["@type"], "MessageCard");
        let new = payload(&chat(Product::Teams, "https://x.logic.azure.com/workflows/x"), &message());
        assert_eq!(new["attachments"][0]["content"]["type"], "AdaptiveCard");
        let other = payload(&chat(Product::Teams, "https://notwebhook.office.com.example.com/"), &message());
        assert_eq!(other["type"], "message");
    }
}
