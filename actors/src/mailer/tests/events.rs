//! What each provider posts, type by type, as it documents it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::golden::apis;
use super::*;
use crate::mailer::events::{DeliveryEvent, DeliveryKind, EventError, EventReader};
use crate::store::Timestamp;

const RECEIVED: Timestamp = Timestamp(7);
const AT: &str = "2024-02-22T23:41:12.126Z";
const AT_MS: i64 = 1_708_645_272_126;
/// The same in whole seconds.
const AT_S: i64 = 1_708_645_272;

fn readers() -> [EventReader; 5] {
    [
        EventReader::postmark(),
        EventReader::sendgrid(),
        EventReader::mailgun(),
        EventReader::resend(),
        EventReader::ses(),
    ]
}

fn read(reader: &EventReader, body: &Value) -> Result<Vec<DeliveryEvent>, EventError> {
    reader.read("e1", RECEIVED, body.to_string().as_bytes())
}

/// The one event in a body.
#[track_caller]
fn only(reader: &EventReader, body: &Value) -> DeliveryEvent {
    let [event] = read(reader, body).unwrap().try_into().unwrap();
    event
}

/// Checks what a body comes to: of our mail, for this recipient, at [`AT`].
#[track_caller]
fn check(
    reader: &EventReader,
    body: &Value,
    kind: DeliveryKind,
    [provider_id, recipient]: [&str; 2],
) {
    let event = only(reader, body);
    assert_eq!(event.kind, kind, "{body}");
    assert_eq!(event.mail, Some(id()), "{body}");
    assert_eq!(event.provider_id.as_deref(), Some(provider_id), "{body}");
    assert_eq!(event.recipient.as_ref().map_or("", EmailAddress::as_str), recipient, "{body}");
    assert_eq!(event.happened_at.0 / 1_000, AT_S, "{body}");
}

/// Two objects as one.
fn with(mut base: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more} is no object") };
    base.as_object_mut().unwrap().extend(more);
    base
}

mod postmark {
    use super::*;

    const MESSAGE: &str = "883953f4-6105-42a2-a16a-77a8eac79483";

    fn event(record_type: &str, more: Value) -> Value {
        let base = json!({
            "RecordType": record_type, "ServerID": 23, "MessageStream": "outbound",
            "MessageID": MESSAGE, "Tag": "welcome",
            // Values of others may be of any kind.
            "Metadata": {"mail_id": ID, "user_id": 43},
        });
        with(base, more)
    }

    fn bounce(bounce_type: &str) -> Value {
        event(
            "Bounce",
            json!({
                "ID": 42, "Type": bounce_type, "TypeCode": 1, "Name": "Hard bounce",
                "Description": "The server was unable to deliver your message",
                "Details": "Test bounce details", "Email": "john@example.com",
                "From": "sender@example.com", "BouncedAt": "2024-02-22T18:41:12.1264212-05:00",
                "DumpAvailable": true, "Inactive": true, "CanActivate": true,
                "Subject": "Test subject",
            }),
        )
    }

    fn delivery() -> Value {
        event(
            "Delivery",
            json!({"Recipient": "john@example.com", "DeliveredAt": AT, "Details": "250 OK"}),
        )
    }

    fn change(reason: Option<&str>) -> Value {
        event(
            "SubscriptionChange",
            json!({
                "ChangedAt": AT, "Recipient": "john@example.com", "Origin": "Recipient",
                "SuppressSending": true, "SuppressionReason": reason,
            }),
        )
    }

    #[test]
    fn every_type_says_what_it_is() {
        let to = [MESSAGE, "john@example.com"];
        let check = |body: &Value, kind| check(&EventReader::postmark(), body, kind, to);
        check(&delivery(), DeliveryKind::Delivered);
        let seen = json!({"Recipient": "john@example.com", "ReceivedAt": AT, "FirstOpen": true});
        check(&event("Open", seen.clone()), DeliveryKind::Opened);
        check(&event("Click", seen), DeliveryKind::Clicked);
        for (bounce_type, kind) in [
            ("HardBounce", DeliveryKind::Bounced),
            ("BadEmailAddress", DeliveryKind::Bounced),
            ("SpamComplaint", DeliveryKind::Complained),
            ("Unsubscribe", DeliveryKind::Unsubscribed),
            ("SoftBounce", DeliveryKind::SoftBounced),
            ("Blocked", DeliveryKind::SoftBounced),
            ("SpamNotification", DeliveryKind::SoftBounced),
            ("VirusNotification", DeliveryKind::SoftBounced),
            ("DMARCPolicy", DeliveryKind::SoftBounced),
            ("Transient", DeliveryKind::Deferred),
            ("DnsError", DeliveryKind::Deferred),
            ("ManuallyDeactivated", DeliveryKind::Dropped),
            ("Unconfirmed", DeliveryKind::Dropped),
            ("SMTPApiError", DeliveryKind::Dropped),
            ("TemplateRenderingFailed", DeliveryKind::Dropped),
            ("AutoResponder", DeliveryKind::Other),
            ("AddressChange", DeliveryKind::Other),
            ("ChallengeVerification", DeliveryKind::Other),
            ("InboundError", DeliveryKind::Other),
            ("OpenRelayTest", DeliveryKind::Other),
            ("Subscribe", DeliveryKind::Other),
            ("Unknown", DeliveryKind::Other),
            ("OfNextYear", DeliveryKind::Other),
        ] {
            check(&bounce(bounce_type), kind);
        }
        let complaint = with(bounce("SpamComplaint"), json!({"RecordType": "SpamComplaint"}));
        check(&complaint, DeliveryKind::Complained);
        check(&change(Some("HardBounce")), DeliveryKind::Bounced);
        check(&change(Some("SpamComplaint")), DeliveryKind::Complained);
        check(&change(Some("ManualSuppression")), DeliveryKind::Unsubscribed);
        check(&change(None), DeliveryKind::Unsubscribed);
        let back = with(change(None), json!({"SuppressSending": false}));
        check(&back, DeliveryKind::Other);
    }

    #[test]
    fn what_is_done_by_hand_is_about_no_mail() {
        let by_hand = json!({"MessageID": null, "Metadata": {}, "Origin": "Admin"});
        let event = only(&EventReader::postmark(), &with(change(None), by_hand));
        assert_eq!((event.mail, event.provider_id), (None, None));
    }

    #[test]
    fn an_event_without_an_id_is_known_by_what_it_says() {
        let of = |body: &Value| only(&EventReader::postmark(), body).event_id;
        assert_eq!(&*of(&bounce("HardBounce")), "Bounce:42");
        let complaint = with(bounce("SpamComplaint"), json!({"RecordType": "SpamComplaint"}));
        assert_eq!(&*of(&complaint), "SpamComplaint:42");
        let first = of(&delivery());
        assert_eq!(first.len(), 64);
        let same = with(delivery(), json!({"Details": "in other words"}));
        assert_eq!(of(&same), first);
        for other in [
            json!({"MessageID": "00000000-6105-42a2-a16a-77a8eac79483"}),
            json!({"Recipient": "jane@example.com"}),
            json!({"DeliveredAt": "2024-02-22T23:41:12.127Z"}),
        ] {
            assert_ne!(of(&with(delivery(), other)), first);
        }
        let open = json!({"RecordType": "Open", "ReceivedAt": AT});
        assert_ne!(of(&with(delivery(), open)), first);
    }
}

mod sendgrid {
    use super::*;

    fn event(name: &str, more: Value) -> Value {
        let base = json!({
            "email": "john@example.com", "timestamp": AT_S, "event": name,
            "smtp-id": "<14c5d75ce93.dfd.64b469@ismtpd-555>", "category": ["welcome"],
            "sg_event_id": "ZGVsaXZlcmVkLTAtMTQ", "mail_id": ID,
            "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
        });
        with(base, more)
    }

    #[test]
    fn every_type_says_what_it_is() {
        let to = ["14c5d75ce93.dfd.64b469", "john@example.com"];
        let none = || json!({});
        for (name, more, kind) in [
            ("processed", none(), DeliveryKind::Sent),
            (
                "deferred",
                json!({"response": "400 try again", "attempt": "5"}),
                DeliveryKind::Deferred,
            ),
            ("delivered", json!({"response": "250 OK", "tls": 1}), DeliveryKind::Delivered),
            ("bounce", json!({"type": "bounce", "status": "5.0.0"}), DeliveryKind::Bounced),
            ("bounce", json!({"type": "blocked", "status": "4.0.0"}), DeliveryKind::SoftBounced),
            ("bounce", json!({"type": "expired"}), DeliveryKind::SoftBounced),
            ("bounce", none(), DeliveryKind::SoftBounced),
            ("dropped", json!({"reason": "Bounced Address"}), DeliveryKind::Dropped),
            ("open", json!({"useragent": "M", "ip": "192.0.2.1"}), DeliveryKind::Opened),
            ("click", json!({"url": "https://example.com/"}), DeliveryKind::Clicked),
            ("spamreport", none(), DeliveryKind::Complained),
            ("unsubscribe", none(), DeliveryKind::Unsubscribed),
            ("group_unsubscribe", json!({"asm_group_id": 10}), DeliveryKind::Unsubscribed),
            ("group_resubscribe", json!({"asm_group_id": 10}), DeliveryKind::Other),
        ] {
            check(&EventReader::sendgrid(), &event(name, more), kind, to);
        }
    }

    #[test]
    fn the_name_of_a_machine_is_no_part_of_a_mails_id() {
        for (given, expected) in [
            ("14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0", "14c5d75ce93.dfd.64b469"),
            ("pFMbP3NgSjaPLaFYzdYEnA.recvd-7d8d4d8c4-abcde-1-66A1.0", "pFMbP3NgSjaPLaFYzdYEnA"),
            ("pFMbP3NgSjaPLaFYzdYEnA", "pFMbP3NgSjaPLaFYzdYEnA"),
        ] {
            let body = event("delivered", json!({"sg_message_id": given}));
            let found = only(&EventReader::sendgrid(), &body).provider_id;
            assert_eq!(found.as_deref(), Some(expected));
        }
    }
}

mod mailgun {
    use super::*;

    const MESSAGE: &str = "20240222234111.1.5A1B@mg.example.com";

    fn event(name: &str, more: Value) -> Value {
        let data = json!({
            "event": name, "timestamp": 1_708_645_272.126_321, "id": "CPgfbmQMTCKtHW6uIWtuVe",
            "recipient": "john@example.com", "recipient-domain": "example.com",
            "log-level": "info", "tags": ["welcome"],
            "message": {"headers": {"to": "john@example.com", "message-id": MESSAGE}},
            "user-variables": {"mail_id": ID, "user_id": 43},
        });
        let signature = json!({"timestamp": "1708645272", "token": "t", "signature": "s"});
        json!({"signature": signature, "event-data": with(data, more)})
    }

    #[test]
    fn every_type_says_what_it_is() {
        let to = [MESSAGE, "john@example.com"];
        let none = || json!({});
        let failed = |reason: &str| json!({"severity": "permanent", "reason": reason});
        for (name, more, kind) in [
            ("accepted", none(), DeliveryKind::Sent),
            ("delivered", none(), DeliveryKind::Delivered),
            (
                "failed",
                json!({"severity": "temporary", "reason": "generic"}),
                DeliveryKind::Deferred,
            ),
            ("failed", failed("bounce"), DeliveryKind::Bounced),
            ("failed", failed("hardfail"), DeliveryKind::Bounced),
            ("failed", failed("suppress-bounce"), DeliveryKind::Dropped),
            ("failed", failed("suppress-complaint"), DeliveryKind::Dropped),
            ("failed", failed("generic"), DeliveryKind::SoftBounced),
            ("failed", failed("old"), DeliveryKind::SoftBounced),
            ("rejected", json!({"reject": {"reason": "Sandbox"}}), DeliveryKind::Dropped),
            ("opened", json!({"ip": "192.0.2.1"}), DeliveryKind::Opened),
            ("clicked", json!({"url": "https://example.com/"}), DeliveryKind::Clicked),
            ("unsubscribed", none(), DeliveryKind::Unsubscribed),
            ("complained", none(), DeliveryKind::Complained),
            ("stored", none(), DeliveryKind::Other),
        ] {
            check(&EventReader::mailgun(), &event(name, more), kind, to);
        }
    }

    #[test]
    fn variables_of_others_and_an_id_in_brackets_are_read() {
        let bracketed = format!("<{MESSAGE}>");
        let more = json!({
            "user-variables": [], "message": {"headers": {"message-id": bracketed}},
        });
        let found = only(&EventReader::mailgun(), &event("delivered", more));
        assert_eq!((found.mail, found.provider_id.as_deref()), (None, Some(MESSAGE)));
        let no_recipient = json!({"recipient": null});
        let found = only(&EventReader::mailgun(), &event("rejected", no_recipient));
        assert_eq!((found.kind, found.recipient), (DeliveryKind::Dropped, None));
    }
}

mod resend {
    use super::*;

    const MESSAGE: &str = "56761188-7520-42d8-8898-ff6fc54ce618";

    fn event(name: &str, more: Value) -> Value {
        let data = json!({
            "broadcast_id": "8b146471-e88e-4322-86af-016cd36fd216",
            "created_at": "2024-02-22T23:41:11.894719+00:00", "email_id": MESSAGE,
            "from": "Acme <a@example.com>", "to": ["john@example.com"], "subject": "Hi",
            "tags": {"mail_id": ID, "tag": "welcome"},
        });
        json!({"type": name, "created_at": AT, "data": with(data, more)})
    }

    #[test]
    fn every_type_says_what_it_is_and_none_of_whom() {
        let bounce =
            |of: &str| json!({"bounce": {"type": of, "subType": "General", "message": "m"}});
        let none = || json!({});
        for (name, more, kind) in [
            ("email.sent", none(), DeliveryKind::Sent),
            ("email.delivered", none(), DeliveryKind::Delivered),
            ("email.delivery_delayed", none(), DeliveryKind::Deferred),
            ("email.bounced", bounce("Permanent"), DeliveryKind::Bounced),
            ("email.bounced", bounce("Transient"), DeliveryKind::SoftBounced),
            ("email.bounced", bounce("Undetermined"), DeliveryKind::SoftBounced),
            ("email.bounced", none(), DeliveryKind::SoftBounced),
            ("email.complained", none(), DeliveryKind::Complained),
            ("email.opened", none(), DeliveryKind::Opened),
            (
                "email.clicked",
                json!({"click": {"link": "https://example.com/"}}),
                DeliveryKind::Clicked,
            ),
            (
                "email.failed",
                json!({"failed": {"reason": "reached_daily_quota"}}),
                DeliveryKind::Dropped,
            ),
            ("email.suppressed", none(), DeliveryKind::Dropped),
            ("email.scheduled", none(), DeliveryKind::Other),
        ] {
            check(&EventReader::resend(), &event(name, more), kind, [MESSAGE, ""]);
        }
    }

    #[test]
    fn tags_are_read_as_they_are_documented_too() {
        let tags = json!({"tags": [
            {"name": "tag", "value": "welcome"}, {"name": "mail_id", "value": ID},
        ]});
        let found = only(&EventReader::resend(), &event("email.sent", tags));
        assert_eq!(found.mail, Some(id()));
    }

    #[test]
    fn what_is_about_no_mail_is_something_else() {
        let body = json!({
            "type": "contact.created", "created_at": AT,
            "data": {"id": "e169aa45", "audience_id": "78261eea", "email": "john@example.com"},
        });
        let found = only(&EventReader::resend(), &body);
        assert_eq!((found.kind, found.mail, found.provider_id), (DeliveryKind::Other, None, None));
    }
}

mod ses {
    use super::*;

    const MESSAGE: &str = "EXAMPLE7c191be45-e9aedb9a-02f9-4d12-a87d-dd0099a07f8a-000000";

    fn in_sns(message: &str) -> Value {
        json!({
            "Type": "Notification", "MessageId": "m1", "Message": message, "Timestamp": AT,
            "TopicArn": "arn:aws:sns:eu-west-1:123456789012:mail", "SignatureVersion": "2",
        })
    }

    fn record(name: &str, more: Value) -> Value {
        let mail = json!({
            "timestamp": AT, "source": "Shop <a@example.com>", "messageId": MESSAGE,
            "sendingAccountId": "123456789012", "destination": ["john@example.com"],
            "headersTruncated": false, "headers": [],
            "tags": {"ses:source-ip": ["192.0.2.1"], "mail_id": [ID]},
        });
        with(json!({"eventType": name, "mail": mail}), more)
    }

    fn event(name: &str, more: Value) -> Value {
        in_sns(&record(name, more).to_string())
    }

    fn recipients(addresses: &[&str]) -> Vec<Value> {
        let one = |address| json!({"emailAddress": address, "action": "failed", "status": "5.1.1"});
        addresses.iter().map(one).collect()
    }

    fn bounce(of: [&str; 2], addresses: &[&str]) -> Value {
        json!({"bounce": {
            "bounceType": of[0], "bounceSubType": of[1], "timestamp": AT, "feedbackId": "f",
            "bouncedRecipients": recipients(addresses),
        }})
    }

    fn complaint(more: Value, addresses: &[&str]) -> Value {
        let complaint = json!({
            "complainedRecipients": recipients(addresses), "timestamp": AT, "feedbackId": "f",
            "userAgent": "ExampleCorp Feedback Loop (V0.01)",
        });
        json!({"complaint": with(complaint, more)})
    }

    const JOHN: &[&str] = &["john@example.com"];
    const BOTH: &[&str] = &["john@example.com", "Jane <jane@example.com>"];

    #[test]
    fn every_type_says_what_it_is() {
        let none = || json!({});
        let preferences = |all: bool| {
            let wishes = json!({"unsubscribeAll": all});
            json!({"subscription": {"timestamp": AT, "newTopicPreferences": wishes}})
        };
        let delayed = json!({"deliveryDelay": {
            "timestamp": AT, "delayType": "TransientCommunicationFailure",
            "delayedRecipients": recipients(JOHN), "expirationTime": AT,
        }});
        let suppressed = ["Permanent", "OnAccountSuppressionList"];
        for (name, more, kind) in [
            ("Send", json!({"send": {}}), DeliveryKind::Sent),
            ("Reject", json!({"reject": {"reason": "Bad content"}}), DeliveryKind::Dropped),
            ("Rendering Failure", json!({"failure": {"errorMessage": "m"}}), DeliveryKind::Dropped),
            (
                "Delivery",
                json!({"delivery": {"timestamp": AT, "recipients": JOHN}}),
                DeliveryKind::Delivered,
            ),
            ("DeliveryDelay", delayed, DeliveryKind::Deferred),
            (
                "Open",
                json!({"open": {"timestamp": AT, "ipAddress": "192.0.2.1"}}),
                DeliveryKind::Opened,
            ),
            (
                "Click",
                json!({"click": {"timestamp": AT, "link": "https://e.com/"}}),
                DeliveryKind::Clicked,
            ),
            ("Bounce", bounce(["Permanent", "General"], JOHN), DeliveryKind::Bounced),
            ("Bounce", bounce(["Permanent", "Suppressed"], JOHN), DeliveryKind::Dropped),
            ("Bounce", bounce(suppressed, JOHN), DeliveryKind::Dropped),
            ("Bounce", bounce(["Transient", "MailboxFull"], JOHN), DeliveryKind::SoftBounced),
            ("Bounce", bounce(["Undetermined", "Undetermined"], JOHN), DeliveryKind::SoftBounced),
            ("Complaint", complaint(none(), JOHN), DeliveryKind::Complained),
            (
                "Complaint",
                complaint(json!({"complaintFeedbackType": "abuse"}), JOHN),
                DeliveryKind::Complained,
            ),
            (
                "Complaint",
                complaint(json!({"complaintFeedbackType": "not-spam"}), JOHN),
                DeliveryKind::Other,
            ),
            (
                "Complaint",
                complaint(json!({"complaintSubType": "OnAccountSuppressionList"}), JOHN),
                DeliveryKind::Dropped,
            ),
            ("Subscription", preferences(true), DeliveryKind::Unsubscribed),
            ("Subscription", preferences(false), DeliveryKind::Other),
        ] {
            check(&EventReader::ses(), &event(name, more), kind, [MESSAGE, "john@example.com"]);
        }
    }

    #[test]
    fn a_notification_of_an_identity_has_another_name_and_no_tags() {
        let mut body = record("", bounce(["Permanent", "General"], JOHN));
        let body_object = body.as_object_mut().unwrap();
        body_object.remove("eventType");
        body_object.insert("notificationType".into(), "Bounce".into());
        body["mail"].as_object_mut().unwrap().remove("tags");
        let found = only(&EventReader::ses(), &in_sns(&body.to_string()));
        assert_eq!((found.kind, found.mail), (DeliveryKind::Bounced, None));
        assert_eq!(found.provider_id.as_deref(), Some(MESSAGE));
    }

    #[test]
    fn each_recipient_that_is_named_is_an_event() {
        let body = event("Bounce", bounce(["Permanent", "General"], BOTH));
        let found = read(&EventReader::ses(), &body).unwrap();
        let found = found.iter().map(|event| {
            (&*event.event_id, event.recipient.as_ref().map_or("", EmailAddress::as_str))
        });
        let expected = [("e1:0", "john@example.com"), ("e1:1", "jane@example.com")];
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn recipients_are_taken_at_their_limit_and_not_one_past_it() {
        let addresses: Vec<_> = (0..=50).map(|n| format!("a{n}@example.com")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let of = |count| {
            let body = event("Bounce", bounce(["Permanent", "General"], &addresses[..count]));
            read(&EventReader::ses(), &body).map(|events| events.len())
        };
        assert_eq!(of(50), Ok(50));
        assert_eq!(of(51), Err(EventError::TooManyRecipients { limit: 50 }));
    }

    #[test]
    fn nobody_is_blamed_for_the_complaint_of_one_among_several() {
        let found = only(&EventReader::ses(), &event("Complaint", complaint(json!({}), BOTH)));
        assert_eq!((found.kind, found.recipient), (DeliveryKind::Complained, None));
        let sent = json!({"send": {}, "mail": {"timestamp": AT, "destination": BOTH}});
        assert_eq!(only(&EventReader::ses(), &event("Send", sent)).recipient, None);
    }

    #[test]
    fn a_greeting_is_no_event() {
        let body = in_sns("Successfully validated SNS topic for Amazon SES event publishing.");
        assert_eq!(read(&EventReader::ses(), &body), Ok(Vec::new()));
    }

    #[test]
    fn a_part_that_belongs_to_a_type_must_be_there() {
        let found = read(&EventReader::ses(), &event("Bounce", json!({})));
        assert_eq!(found, Err(EventError::Missing { part: "bounce" }));
    }
}

/// A body of each provider whose type nobody knows, with what it can still be known by.
fn unknown() -> [(EventReader, Value, bool); 5] {
    let ses = json!({
        "eventType": "Teleported", "mail": {"messageId": "p-1", "tags": {"mail_id": [ID]}},
    });
    [
        (
            EventReader::postmark(),
            json!({"RecordType": "New", "MessageID": "p-1", "Metadata": {"mail_id": ID}, "Type": 5}),
            false,
        ),
        (
            EventReader::sendgrid(),
            json!({"event": "new", "sg_message_id": "p-1", "mail_id": ID, "email": 5}),
            false,
        ),
        (
            EventReader::mailgun(),
            json!({"event-data": {
                "event": "new", "message": {"headers": {"message-id": "p-1"}},
                "user-variables": {"mail_id": ID}, "timestamp": "soon",
            }}),
            false,
        ),
        (
            EventReader::resend(),
            json!({"type": "email.new", "created_at": AT,
                "data": {"email_id": "p-1", "tags": {"mail_id": ID}}}),
            true,
        ),
        (EventReader::ses(), json!({"Message": ses.to_string()}), false),
    ]
}

#[test]
fn a_type_that_nobody_knows_is_something_else() {
    for (reader, body, has_time) in unknown() {
        let found = only(&reader, &body);
        assert_eq!(found.kind, DeliveryKind::Other, "{body}");
        assert_eq!((found.mail, found.provider_id.as_deref()), (Some(id()), Some("p-1")), "{body}");
        let expected = if has_time { Timestamp(AT_MS) } else { RECEIVED };
        assert_eq!(found.happened_at, expected, "{body}");
    }
}

#[test]
fn a_number_of_somebody_else_is_not_ours() {
    for other in
        [json!("7"), json!(7), json!(null), json!({"a": 1}), json!(ID.to_uppercase() + "0")]
    {
        let body = json!({
            "event": "delivered", "email": "john@example.com", "timestamp": AT_S, "mail_id": other,
        });
        assert_eq!(only(&EventReader::sendgrid(), &body).mail, None, "{body}");
    }
}

#[test]
fn an_address_that_no_mail_of_ours_can_go_to_is_left_out() {
    for other in ["", "john", "\"a b\"@example.com", "a@b\nc"] {
        let body = json!({"event": "delivered", "email": other, "timestamp": AT_S});
        assert_eq!(only(&EventReader::sendgrid(), &body).recipient, None, "{other}");
    }
}

#[test]
fn times_are_in_their_form_or_the_event_is_refused() {
    let resend = |at: Value| {
        let body = json!({"type": "email.sent", "created_at": at, "data": {}});
        read(&EventReader::resend(), &body).map(|events| events[0].happened_at.0)
    };
    assert_eq!(resend(AT.into()), Ok(AT_MS));
    assert_eq!(resend("2024-02-22T18:41:12.1264212-05:00".into()), Ok(AT_MS));
    for wrong in [
        "",
        "now",
        "2024-02-22",
        "2024-02-22T23:41:12",
        "2024-02-22 23:41:12Z",
        "2024-02-22T23:41:12Z[UTC]",
        "2024-02-30T23:41:12Z",
        "1708645272",
        "2024-02-22T23:41:12.00000000000000000000000000Z",
    ] {
        assert_eq!(resend(wrong.into()), Err(EventError::Time), "{wrong}");
    }
    let sendgrid = |at: &str| {
        let body = format!(r#"{{"event":"open","email":"a@example.com","timestamp":{at}}}"#);
        let read = EventReader::sendgrid().read("e1", RECEIVED, body.as_bytes());
        read.map(|events| events[0].happened_at.0)
    };
    assert_eq!(sendgrid("1708645272"), Ok(AT_MS - 126));
    assert_eq!(sendgrid("1708645272.126987"), Ok(AT_MS));
    assert_eq!(sendgrid("253402300799"), Ok(253_402_300_799_000));
    for wrong in ["253402300800", "-1", "1e9", "\"1708645272\"", "1708645272.5e3", "[]", "null"] {
        assert_eq!(sendgrid(wrong), Err(EventError::Time), "{wrong}");
    }
}

#[test]
fn what_is_not_of_its_form_is_refused_and_not_quoted() {
    for reader in readers() {
        for body in ["", "{", "[]", "null", "7", "\"secret\"", r#"{"secret":1}"#, "\u{feff}{}"] {
            let error = reader.read("e1", RECEIVED, body.as_bytes()).unwrap_err();
            assert!(matches!(error, EventError::Malformed { .. }), "{reader:?} {body} {error:?}");
            assert!(!error.to_string().contains("secret"));
        }
        assert!(reader.read("e1", RECEIVED, b"\xff\xfe").is_err());
    }
    let deep = json!({"Message": "[".repeat(100_000)});
    assert!(read(&EventReader::ses(), &deep).is_err());
}

#[test]
fn a_reader_is_called_what_its_provider_is_called() {
    for (reader, api) in readers().iter().zip(apis()) {
        let named = reader.clone().named("other").unwrap();
        for (_, body, _) in unknown().iter().filter(|(known, ..)| known == reader) {
            assert_eq!(&*only(reader, body).provider, api.name());
            assert_eq!(&*only(&named, body).provider, "other");
        }
    }
    assert!(EventReader::ses().named("Not A Name").is_err());
}

#[test]
fn every_kind_is_read_back_from_its_word() {
    for kind in DeliveryKind::ALL {
        assert_eq!(DeliveryKind::parse(kind.as_str()), Some(*kind));
    }
    let words: std::collections::HashSet<_> =
        DeliveryKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(words.len(), 11);
    assert_eq!(DeliveryKind::parse("delivered "), None);
}

/// JSON that has the names which are looked for, with anything behind them.
fn odd() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        proptest::sample::select(vec![ID, AT, "Bounce", "bounce", "email.bounced", "failed"])
            .prop_map(Value::from),
    ];
    let name = proptest::sample::select(vec![
        "RecordType",
        "MessageID",
        "Metadata",
        "mail_id",
        "ID",
        "Type",
        "Email",
        "BouncedAt",
        "Recipient",
        "event",
        "email",
        "timestamp",
        "sg_message_id",
        "type",
        "event-data",
        "message",
        "headers",
        "message-id",
        "user-variables",
        "recipient",
        "created_at",
        "data",
        "tags",
        "email_id",
        "bounce",
        "Message",
        "eventType",
        "mail",
        "destination",
        "messageId",
        "bouncedRecipients",
        "emailAddress",
        "bounceType",
    ]);
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(name.clone(), inner, 0..8).prop_map(|all| {
                Value::Object(all.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in any::<Vec<u8>>(), id in "\\PC{0,9}", at in any::<i64>()) {
        for reader in readers() {
            let _whatever = reader.read(&id, Timestamp(at), &body);
        }
    }

    #[test]
    fn no_json_makes_a_reader_panic(body in odd()) {
        for reader in readers() {
            let _whatever = read(&reader, &body);
        }
        let _whatever = read(&EventReader::ses(), &json!({"Message": body.to_string()}));
    }
}
