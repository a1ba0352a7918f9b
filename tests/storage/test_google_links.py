"""Signed URLs, against the vectors that Google has published for its own libraries."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from athens_tx.storage.google_links import unsigned

EMAIL = "test-iam-credentials@dummy-project-id.iam.gserviceaccount.com"

#: The public half of the key that made the signatures below.
PUBLIC = RSAPublicNumbers(
    65537,
    int(
        "ac3f3322ac8a2db5f436af28d098f5a871211e1a8edfed0e3fb4c4171e55c5ce8f77006814dadf9c9448fd2f99683612"
        "d5abebe4faa9a7c83cf9434e32f23556c8c633cc634dac6456ff2698aa7aa52990b2d4eddb9a736357b1036c2fe31356"
        "4b058d14dc76921df9fa4bd343f0c5dd803d3fba54535b0ababd4f3fc3a8b9b58b14ee7d8b2e54139757d0eff7a63bd9"
        "d87021497b31d955ad0799e5ac747c16b28934b24c10610348ccfdc917d0694798094f680d81ee8aa290deb0978ba0bc"
        "da5fb7149c39fe0809e72ee2c3c304ac2152b257184116c1573e9960a5a411c261b3c046dffd7a6df6aa36eb0d943209"
        "f7d23b0e68a9527805fc712e95885fad",
        16,
    ),
).public_key()

#: URL, time, seconds, signature.
VECTORS = {
    "Simple GET": (
        "https://storage.googleapis.com/test-bucket/test-object",
        datetime(2019, 2, 1, 9, tzinfo=UTC),
        10,
        "95e6a13d43a1d1962e667f17397f2b80ac9bdd1669210d5e08e0135df9dff4e56113485dbe429ca2266487b9d1796ebdee2d7cf682a6ef3bb9fbb4c351686fba90d7b621cf1c4eb1fdf126460dd25fa0837dfdde0a9fd98662ce60844c458448fb2b352c203d9969cb74efa4bdb742287744a4f2308afa4af0e0773f55e32e92973619249214b97283b2daa14195244444e33f938138d1e5f561088ce8011f4986dda33a556412594db7c12fc40e1ff3f1bedeb7a42f5bcda0b9567f17f65855f65071fabb88ea12371877f3f77f10e1466fff6ff6973b74a933322ff0949ce357e20abe96c3dd5cfab42c9c83e740a4d32b9e11e146f0eb3404d2e975896f74",
    ),
    "Vary expiration and timestamp": (
        "https://storage.googleapis.com/test-bucket/test-object",
        datetime(2019, 3, 1, 9, tzinfo=UTC),
        20,
        "9669ed5b10664dc594c758296580662912cf4bcc5a4ba0b6bf055bcbf6f34eed7bdad664f534962174a924741a0c273a4f67bc1847cef20192a6beab44223bd9d4fbbd749c407b79997598c30f82ddc269ff47ec09fa3afe74e00616d438df0d96a7d8ad0adacfad1dc3286f864d924fe919fb0dce45d3d975c5afe8e13af2db9cc37ba77835f92f7669b61e94c6d562196c1274529e76cfff1564cc2cad7d5387dc8e12f7a5dfd925685fe92c30b43709eee29fa2f66067472cee5423d1a3a4182fe8cea75c9329d181dc6acad7c393cd04f8bf5bc0515127d8ebd65d80c08e19ad03316053ea60033fd1b1fd85a69c576415da3bf0a3718d9ea6d03e0d66f0",
    ),
    "Vary bucket and object": (
        "https://storage.googleapis.com/test-bucket2/test-object2",
        datetime(2019, 2, 1, 9, tzinfo=UTC),
        10,
        "36e3d58dfd3ec1d2dd2f24b5ee372a71e811ffaa2162a2b871d26728d0354270bc116face87127532969c4a3967ed05b7309af741e19c7202f3167aa8c2ac420b61417d6451442bb91d7c822cd17be8783f01e05372769c88913561d27e6660dd8259f0081a71f831be6c50283626cbf04494ac10c394b29bb3bce74ab91548f58a37118a452693cf0483d77561fc9cac8f1765d2c724994cca46a83517a10157ee0347a233a2aaeae6e6ab5e204ff8fc5f54f90a3efdb8301d9fff5475d58cd05b181affd657f48203f4fb133c3a3d355b8eefbd10d5a0a5fd70d06e9515460ad74e22334b2cba4b29cae4f6f285cdb92d8f3126d7a1479ca3bdb69c207d860",
    ),
    "HTTPS Bucket Bound Hostname Support": (
        "https://mydomain.tld/test-object",
        datetime(2019, 2, 1, 9, tzinfo=UTC),
        10,
        "7115a77f8c7ed1a8b74bca8b520904fca7f3bab90d69ea052687a94efd9b3a4e2a7fb7135d40e295e0a21958194c55da7e106227957c22ed6edc9d8b3d2a8133bc8af84fc9695dda8081d53f0db5ea9f28e5bfc225d78f873e9f571fd287bb7a95330e726aebd8eb4623cdb0b1a7ceb210b2ce1351b6be0191c2ad7b38f7ceb6c5ce2f98dbfb5a5a649050585e46e97f72f1f5407de657a56e34a3fdc80cdaa0598bd47f3e8af5ff22d0916b19b106890bff8c3f6587f1d3b076b16cd0ba0508607a672be33b9c75d537e15258450b43d22a21c4d528090acbb8e5bae7b31fc394e61394106ef1d6a8ed43074ab05bcec65674cd8113fb3de388da4d97e62f56",
    ),
}

CANONICAL = """\
GET
/test-bucket/test-object
X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=test-iam-credentials%40dummy-project-id.iam.gserviceaccount.com\
%2F20190201%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-Date=20190201T090000Z&X-Goog-Expires=10&X-Goog-SignedHeaders=host
host:storage.googleapis.com

host
UNSIGNED-PAYLOAD"""


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_google_has_signed_the_same(name: str) -> None:
    url, when, seconds, signature = VECTORS[name]
    waiting = unsigned(url, EMAIL, when, seconds)
    PUBLIC.verify(bytes.fromhex(signature), waiting.to_sign.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert waiting.signed(bytes.fromhex(signature)) == f"{waiting.url}&X-Goog-Signature={signature}"
    assert waiting.url.startswith(f"{url}?X-Goog-Algorithm=GOOG4-RSA-SHA256&")


def test_the_canonical_request_is_that_of_google() -> None:
    url, when, seconds, _ = VECTORS["Simple GET"]
    waiting = unsigned(url, EMAIL, when, seconds)
    assert waiting.canonical == CANONICAL
    assert waiting.to_sign.splitlines() == [
        "GOOG4-RSA-SHA256",
        "20190201T090000Z",
        "20190201/auto/storage/goog4_request",
        "00e2fb794ea93d7adb703edaebdd509821fcc7d4f1a79ac5c8d2b394df109320",
    ]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://storage.example.com:443/b/o", "storage.example.com"),
        ("http://storage.example.com:80/b/o", "storage.example.com"),
        ("https://storage.example.com:4443/b/o", "storage.example.com:4443"),
        ("http://127.0.0.1:443/b/o", "127.0.0.1:443"),
        ("https://[::1]/b/o", "[::1]"),
    ],
)
def test_the_host_is_signed_as_clients_send_it(url: str, host: str) -> None:
    assert f"\nhost:{host}\n\nhost\n" in unsigned(url, EMAIL, datetime(2019, 2, 1, tzinfo=UTC), 10).canonical
