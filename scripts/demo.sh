#!/bin/sh
# Sets up a fresh Debian 12 (root, Node 20 on the PATH) and runs the demo.
set -eu
cd "$(dirname "$0")/.."
if ! command -v runc >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends runc >/dev/null
fi
[ -x node_modules/.bin/node ] || npm ci --no-audit --no-fund
npm run --silent demo
