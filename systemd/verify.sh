#!/bin/sh
# Proves with openssl alone that a bundle is what its publisher signed, and whole.
#
#   verify.sh PUBLIC_KEY     the publisher's ed25519 key (PEM), which did not come with the bundle
set -eu
[ $# = 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 2; }
key=$(readlink -f "$1")
cd "$(dirname "$0")"
[ -f SHA256SUMS.sig ] || { echo "verify.sh: the bundle is NOT SIGNED" >&2; exit 1; }
openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig >/dev/null ||
  { echo "verify.sh: the signature is NOT of this key" >&2; exit 1; }
sha256sum --quiet --check SHA256SUMS || { echo "verify.sh: files were CHANGED" >&2; exit 1; }
# A file that nobody signed is as bad as a changed one.
listed=$(mktemp)
trap 'rm -f "$listed"' EXIT
find . -type f ! -name SHA256SUMS ! -name SHA256SUMS.sig | sed 's#^\./##' | sort > "$listed"
cut -c67- SHA256SUMS | sort | cmp -s - "$listed" || { echo "verify.sh: there are files that were NOT SIGNED" >&2; exit 1; }
echo "verified: $(cat VERSION), signed by the key $(openssl pkey -pubin -in "$key" -outform DER | sha256sum | cut -c1-16)"
