"""An SMTP server that keeps what it takes, and shows how Python's own parser reads it.

Usage: smtp_server.py SMTP_PORT HTTP_PORT, both on 127.0.0.1. `GET /` answers with all messages:

    [{"from": …, "to": […], "content": base64, "headers": [[name, value], …],
      "people": {"From": [[name, address], …], …}, "defects": […],
      "parts": [{"type": …, "disposition": …, "name": …, "cid": …, "content": base64}, …]}, …]

Names and values of headers are decoded. Contents of parts are decoded from their transfer encoding.
"""

import asyncio
import base64
import collections
import email
import email.header
import email.policy
import email.utils
import http.server
import json
import sys
import threading

from aiosmtpd.smtp import SMTP

HOST = "127.0.0.1"
# LIMIT: messages that are kept; older ones go first.
KEPT = 1000
# LIMIT: bytes of a message.
SIZE = 33_554_432

messages = collections.deque(maxlen=KEPT)


def base64_text(data):
    return base64.b64encode(data).decode("ascii")


def leaf(part):
    return {
        "type": part.get_content_type(),
        "disposition": part.get_content_disposition(),
        "name": part.get_filename(),
        "cid": part["content-id"],
        "content": base64_text(part.get_payload(decode=True)),
    }


def people(message, name):
    """Not as the policy reads them: it puts a space between encoded words (RFC 2047, 6.2)."""
    values = [str(value) for field, value in message.raw_items() if field.lower() == name.lower()]
    return [
        [str(email.header.make_header(email.header.decode_header(who))), address]
        for who, address in email.utils.getaddresses(values)
    ]


def read(envelope):
    message = email.message_from_bytes(envelope.original_content, policy=email.policy.default)
    leaves = [part for part in message.walk() if not part.is_multipart()]
    return {
        "from": envelope.mail_from,
        "to": envelope.rcpt_tos,
        "content": base64_text(envelope.original_content),
        "people": {name: people(message, name) for name in ["From", "To", "Cc", "Reply-To"]},
        "headers": [[name, str(value)] for name, value in message.items()],
        "defects": [type(defect).__name__ for part in message.walk() for defect in part.defects],
        "parts": [leaf(part) for part in leaves],
    }


class Keep:
    async def handle_DATA(self, server, session, envelope):
        messages.append(read(envelope))
        return f"250 2.0.0 Ok: queued as M{len(messages)}"


class Show(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(list(messages)).encode("ascii")
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


async def main(smtp_port, http_port):
    show = http.server.ThreadingHTTPServer((HOST, http_port), Show)
    threading.Thread(target=show.serve_forever, daemon=True).start()
    loop = asyncio.get_running_loop()

    def greet():
        return SMTP(Keep(), hostname="localhost", data_size_limit=SIZE, loop=loop)

    server = await loop.create_server(greet, HOST, smtp_port)
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
