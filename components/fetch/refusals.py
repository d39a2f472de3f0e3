"""Answers that are no fault of the network and say nothing of the image: a challenge, a login, a size not served.

A challenge is a page that a browser has to solve, or a person. It is said, and never worked around.
"""

import re
from collections.abc import Mapping

from components.fetch.failure import Failure, Retry

# Headers of Cloudflare, AWS, Vercel, DataDome and SiteGround that come with a challenge alone.
_CHALLENGE_HEADERS = ("cf-mitigated", "x-amzn-waf-action", "x-vercel-mitigated", "x-dd-b", "sg-captcha")
_CHALLENGE = re.compile(
    rb"cdn-cgi/challenge-platform|__cf_chl|cf-turnstile|just a moment\.\.\.|captcha-delivery\.com|_incapsula_resource"
    rb"|px-captcha|awswafintegration|aws-waf-token"
    rb"|sgcaptcha|within\.website/x/cmd/anubis|making sure you(?:'|&#39;|\xe2\x80\x99)re not a bot"
    rb"|are you (?:a )?(?:human|robot)"
    rb"|verify(?:ing)? (?:that )?you are (?:a )?human|checking your browser|security checkpoint|ddos-guard",
    re.IGNORECASE,
)
# A riddle on a page that refuses; on others it may belong to a form.
_CAPTCHA = re.compile(rb"g-recaptcha|recaptcha/api|h-captcha|hcaptcha\.com|<title>[^<]*captcha", re.IGNORECASE)
_LOGIN = re.compile(rb"<input[^>]+type\s*=\s*[\"']?password|saml(?:request|response)\b", re.IGNORECASE)
_LOGIN_PATH = re.compile(r"/(?:log-?in|sign-?in|sso|cas|shibboleth|idp|wp-login)(?:[/?.]|$)", re.IGNORECASE)
_SIZE = re.compile(
    rb"w\.wiki/GHai|thumbnail (?:sizes?|steps?)|(?:size|width|height|dimensions?|resolution)s?\b[^.<]{0,40}"
    rb"\b(?:not (?:allowed|supported|permitted|available)|unsupported|too large|exceed)"
    rb"|(?:unsupported|invalid|illegal) (?:image )?(?:size|width|dimension)"
    rb"|exceeds? (?:the )?max(?:imum)? ?(?:width|size|height)",
    re.IGNORECASE,
)
_SIZE_STATUSES = (400, 403, 413, 422, 429, 501)
TURNED_AWAY = ("challenged", "login")
CHALLENGED = "this host turns programs away (a challenge page); ask the museum for a dump of its images"
LOGIN = "this host asks for a login; ask the museum for open images, or for a dump of them"
NOT_ALLOWED = (
    "this host does not serve images of this size: name those that it does with image_sizes, or another size in "
    "image_base"
)


def explained(url: str, status: int, headers: Mapping[str, str], body: bytes) -> Failure | None:
    """The Failure with a reason of its own that an answer stands for; None where its status says all there is.

    Args:
        url: Address that answered, after redirects.
        status: HTTP status; of 2xx, only of pages.
        body: The answer's first bytes.
    """
    if _is_challenge(status, headers, body):
        return Failure("challenged", CHALLENGED, Retry.NEVER, status)
    if status == 401 or (status == 403 and _LOGIN.search(body)) or (200 <= status < 300 and _LOGIN_PATH.search(url)):
        return Failure("login", LOGIN, Retry.NEVER, status)
    if status in _SIZE_STATUSES and _SIZE.search(body):
        return Failure("size_not_allowed", NOT_ALLOWED, Retry.NEVER, status)
    return None


def _is_challenge(status: int, headers: Mapping[str, str], body: bytes) -> bool:
    if status in (404, 410):
        return False
    if any(name in headers for name in _CHALLENGE_HEADERS) or _CHALLENGE.search(body):
        return True
    return status in (403, 429, 503) and bool(_CAPTCHA.search(body))
