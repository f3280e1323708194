#!/bin/sh
# Installs the agent command lines with which crewd was tried, one npm prefix each, and the node that they want:
#
#     sh tests/real_agents/install.sh FOLDER
#
# Wants npm; takes everything from the registry that npm is set to, and writes nowhere but below FOLDER.
set -eu

folder=${1:?say where: a folder, which is made}

install() {
    mkdir -p "$folder/$1"
    npm install --prefix "$folder/$1" --no-audit --no-fund --no-save "$2"
}

install claude @anthropic-ai/claude-code@2.1.329
install codex @openai/codex@0.169.0
install gemini @google/gemini-cli@0.61.0
install pi @earendil-works/pi-coding-agent@0.87.1
install node node@22

PATH="$(cd "$folder/node/node_modules/.bin" && pwd):$PATH"
for name in claude codex gemini pi; do
    printf '%s: ' "$name"
    "$folder/$name/node_modules/.bin/$name" --version
done
