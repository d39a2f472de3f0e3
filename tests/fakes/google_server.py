"""Google's servers of tokens and of objects, on loopback, with accounts whose keys are real.

The fixture `google` is one: google.account("me@test") is a key's JSON; google.seen, who came with what token.
"""

import base64
import json
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# In each account's key, so that a test can look for it where no key may be.
MARK = "of-the-key-and-of-nothing-else"


class Google(BaseHTTPRequestHandler):
    """Tokens for signed assertions, and objects for those who have a token."""

    def do_POST(self) -> None:
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        account = self.server.verified(form["assertion"][0])
        self.server.exchanged.append(account)
        self._answer(200 if account else 400, {"access_token": f"token-of-{account}", "expires_in": 3600})

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        if "/o" in url.path:  # the library asks for the bucket as well, in a thread of its own, when it likes
            self.server.seen.append((url.path, self.headers["Authorization"]))
        name = urllib.parse.unquote(url.path.rpartition("/")[2])
        found = {"name": name, "size": "4", "generation": "1", "items": [{"name": "listed", "size": "4"}]}
        self._answer(200 if self.headers["Authorization"] else 401, found)

    def _answer(self, status: int, content: dict) -> None:
        body = json.dumps(content if status == 200 else {"error": "invalid_grant"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


class GoogleServer(ThreadingHTTPServer):
    """`exchanged`: whose assertions asked for a token, None for nobody's; `seen`: paths of objects and who asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Google)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.keys: dict[str, object] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.exchanged: list[str | None] = []

    def account(self, email: str, **changed: str) -> str:
        """A new account's key, as Google gives it out."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(65537, 2048)
        self.keys[email] = key.public_key()
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        info = {
            "type": "service_account",
            "project_id": "test",
            "private_key_id": MARK,
            "private_key": key.private_bytes(*form).decode(),
            "client_email": email,
            "client_id": "1",
            "auth_uri": f"{self.url}/auth",
            "token_uri": f"{self.url}/token",
            "auth_provider_x509_cert_url": f"{self.url}/certs",
            "client_x509_cert_url": f"{self.url}/cert",
        }
        return json.dumps({**info, **changed})

    def verified(self, assertion: str) -> str | None:
        """The account that signed `assertion`; None if nobody whom we know did."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        signed, _, signature = assertion.rpartition(".")
        account = json.loads(decoded(signed.partition(".")[2]))["iss"]
        try:
            self.keys[account].verify(decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (KeyError, InvalidSignature):
            return None
        return account


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
