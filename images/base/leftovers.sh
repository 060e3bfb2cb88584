#!/bin/bash
# Commits what the agent left uncommitted, on top of what the gate has, and pushes it. Works in a
# repository of its own. Usage: leftovers.sh REMOTE BRANCH MESSAGE NAME EMAIL FILE_KB_MAX
set -e
own=$(mktemp -d)
g() { /usr/bin/git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c commit.gpgsign=false -c core.autocrlf=false "$@"; }
g init --quiet --bare "$own"
export GIT_DIR=$own GIT_WORK_TREE=/workspace GIT_INDEX_FILE=$own/index.trimo
[ -d /workspace/.git/objects ] && echo /workspace/.git/objects > "$GIT_DIR/objects/info/alternates"
g fetch --quiet --no-tags --depth=1 "$1" "refs/heads/$2"
parent=$(g rev-parse FETCH_HEAD)
g read-tree "$parent"
cd /workspace
# What is larger than GitHub takes is left out, and said.
large() { find . -xdev -path ./.git -prune -o -type f -size "+$size" -printf "$1" 2>/dev/null || true; }
size=$6k
{ printf '.\0'; large ':(exclude,literal)%P\0'; } > "$own/paths"
code=0
g add -A --ignore-errors --pathspec-from-file="$own/paths" --pathspec-file-nul || code=$?
# 128: git takes no such list, as of files in a submodule. Then all of it, rather than nothing.
if [ "$code" = 128 ]; then g add -A --ignore-errors . || true
else
  large '%P\0' > "$own/large"
  if [ -s "$own/large" ]; then
    # Ignored ones would not have been committed anyway. A name is one line, whatever is in it.
    { g check-ignore -z --stdin < "$own/large" || true; } | sort -z > "$own/ignored"
    sort -z "$own/large" | comm -z -23 - "$own/ignored" | tr '\001-\037\177' '?' | tr '\0' '\n' | head -n 20 | sed 's/^/left out /'
  fi
fi
tree=$(g write-tree)
if [ "$tree" != "$(g rev-parse "$parent^{tree}")" ]; then
  commit=$(GIT_AUTHOR_NAME="$4" GIT_AUTHOR_EMAIL="$5" GIT_COMMITTER_NAME="$4" GIT_COMMITTER_EMAIL="$5" g commit-tree "$tree" -p "$parent" -m "$3")
  g push --quiet "$1" "$commit:refs/heads/$2"
  echo committed
fi
rm -rf "$GIT_DIR"
