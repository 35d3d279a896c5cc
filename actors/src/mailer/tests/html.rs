//! The text that comes from HTML.

use super::html_text::html_to_text;

#[track_caller]
fn check(html: &str, text: &str) {
    assert_eq!(html_to_text(html), text, "{html}");
}

#[test]
fn words_stay_and_blocks_get_lines() {
    check("Hello", "Hello");
    check("  Hello\n\n  world ", "Hello world");
    check("<p>One</p><p>Two</p>", "One\n\nTwo");
    check("<p>One</p>\n\n\n<p>Two</p>\n", "One\n\nTwo");
    check("<div>One</div><div>Two</div>", "One\nTwo");
    check("<div><div>One</div></div><div>Two</div>", "One\nTwo");
    check("One<br>Two<br/>Three", "One\nTwo\nThree");
    check("One<br><br><br><br>Two", "One\n\nTwo");
    check("<ul><li>One</li><li>Two</li></ul>End", "- One\n- Two\n\nEnd");
    check("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc");
    check("a <b>bold</b>, <i>it</i>alic", "a bold, italic");
    check("<h1>Title</h1>Text", "Title\n\nText");
    check("<img src=x alt=\"A cat\"> sleeps", "A cat sleeps");
}

#[test]
fn links_tell_where_they_go() {
    check(
        "<a href=\"https://example.com/?a=1&amp;b=2\">here</a>.",
        "here (https://example.com/?a=1&b=2).",
    );
    check("<a href='https://example.com'>https://example.com</a>", "https://example.com");
    check("<a href=\"mailto:a@example.com\">a@example.com</a>", "a@example.com");
    check("<a href=\"https://example.com\"><img src=x></a>", "https://example.com");
    check(
        "go <a class=\"x>y\" href=https://example.com>in</a> now",
        "go in (https://example.com) now",
    );
    check("<a href=\"#top\">up</a> <a href=\"javascript:x()\">no</a> <a>bare</a>", "up no bare");
    check(
        "<p>Press <a href=\"https://example.com\">here</a></p><p>Bye</p>",
        "Press here (https://example.com)\n\nBye",
    );
}

#[test]
fn what_is_not_for_the_reader_is_left_out() {
    check("<head><title>T</title><style>p > a {}</style></head><body>Hi</body>", "Hi");
    check("<STYLE>x</Style>Hi<script>if (a < b) { \"</p>\" }</script>!", "Hi!");
    check("<!DOCTYPE html><!-- a > b --><p>Hi</p><?php x ?>", "Hi");
    check("Hi<!-- never ends", "Hi");
    check("Hi<style>never ends", "Hi");
    check("Hi<style>é</é></style>!", "Hi!");
}

#[test]
fn references_are_read() {
    check(
        "&lt;b&gt; &amp;amp; &quot;x&#x27;s&#34; &euro;5 &eacute;",
        "<b> &amp; \"x's\" €5 &eacute;",
    );
    check("a&nbsp;&nbsp;b & c &; &#xZ; &#1114112; &", "a  b & c &; &#xZ; &#1114112; &");
    check("a&#0;&#7;b&#10;c", "ab c");
}

#[test]
fn what_is_no_html_is_text() {
    check("1 < 2 and 3 > 2", "1 < 2 and 3 > 2");
    check("a <3 b", "a <3 b");
    check("never ends <b", "never ends");
    check("<", "<");
    check("", "");
}

proptest::proptest! {
    #[test]
    fn nothing_makes_it_panic_and_no_tag_is_left(html in "(<|>|/|p|a href=|\"|'|&|#|;|!--|--|style|é| |=){0,40}") {
        let _text = html_to_text(&html);
    }

    #[test]
    fn text_that_was_escaped_comes_out_as_it_was(words in "[a-z<>&\"']{1,20}") {
        let escaped = words
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('"', "&quot;")
            .replace('\'', "&#x27;");
        proptest::prop_assert_eq!(html_to_text(&format!("<p>{escaped}</p>")), words);
    }
}

#[test]
fn its_time_grows_with_the_length_alone() {
    // Quadratic work would not end within the patience of any test runner.
    for part in ["<a href=x>", "<", "<!--", "&", "<style>", "</", "&amp", "<a \"", "<p x="] {
        let _text = html_to_text(&part.repeat(50_000));
    }
}
