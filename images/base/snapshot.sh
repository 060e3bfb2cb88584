#!/bin/bash
# One snapshot: everything uncommitted, as a commit on top of what the gate has, at its refs/trimo/snapshot.
# Nothing is done where nothing has changed since the last one. The index lies in FOLDER, as git left it after
# the clone, so that what the agent does to its .git hinders nothing.
# Usage: snapshot.sh FOLDER REMOTE SNAPSHOT_REMOTE BRANCH NAME EMAIL FILE_KB_MAX
# Prints the CPU's time last. Exit 75: the gateway does not answer, or refuses. After another failure the next
# one begins anew.
set -e
finish() {
  code=$?
  [ "$code" = 0 ] || [ "$code" = 75 ] || rm -rf "${own:?}"/*
  times
}
trap finish EXIT
own=$1 remote=$2 snapshots=$3 branch=$4 name=$5 email=$6
g() { /usr/bin/git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.autocrlf=false -c http.proxy= "$@"; }
export GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0
# Of an earlier one that was ended.
! compgen -G "$own/*.lock" > /dev/null || rm -f "$own"/*.lock
if [ ! -f "$own/HEAD" ]; then
  g init --quiet --bare "$own"
  [ ! -d /workspace/.git/objects ] || echo /workspace/.git/objects > "$own/objects/info/alternates"
fi
export GIT_DIR=$own GIT_WORK_TREE=/workspace GIT_INDEX_FILE=$own/index.trimo

# The commit that the gate has: as the agent's git knows it since its last push, else as the gate says. Its
# trees are the agent's own objects where they are whole.
# shellcheck disable=SC2317 # It is called below; shellcheck 0.9 does not see how.
findHead() {
  if [ "$1" != asked ]; then read -r head < "/workspace/.git/refs/remotes/origin/$branch" || head=; fi 2> /dev/null
  [[ $head =~ ^[0-9a-f]{40}$ ]] || head=$(g ls-remote "$remote" "refs/heads/$branch")
  head=${head:0:40}
  [ -n "$head" ] || exit 75
  [ "$head" = "$(contents head)" ] || g cat-file -e "$head^{tree}" 2> /dev/null ||
    g fetch --quiet --no-tags --depth=1 "$remote" "$head" || exit 75
  echo "$head" > "$own/head"
}
contents() { [ ! -f "$own/$1" ] || echo "$(< "$own/$1")"; }
push() {
  commit=$(GIT_AUTHOR_NAME=$name GIT_AUTHOR_EMAIL=$email GIT_COMMITTER_NAME=$name GIT_COMMITTER_EMAIL=$email g commit-tree "$tree" -p "$head" -m Snapshot)
  g push --quiet "$snapshots" "+$commit:refs/trimo/snapshot"
}

export GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0
# Of an earlier one that was ended.
! compgen -G "$own/*.lock" > /dev/null || rm -f "$own"/*.lock
if [ ! -f "$own/HEAD" ]; then
  g init --quiet --bare "$own"
  [ ! -d /workspace/.git/objects ] || echo /workspace/.git/objects > "$own/objects/info/alternates"
fi
export GIT_DIR=$own GIT_WORK_TREE=/workspace GIT_INDEX_FILE=$own/index.trimo

# What the gate has, with its trees: from the agent's own objects where they are whole.
# shellcheck disable=SC2317 # It is called below; shellcheck 0.9 does not see how.
findHead() {
  head=$(g ls-remote "$remote" "refs/heads/$branch" | cut -f1)
  [ -n "$head" ] || exit 75
  g cat-file -e "$head^{tree}" 2> /dev/null || g fetch --quiet --no-tags --depth=1 "$remote" "$head" || exit 75
}

if [ ! -f "$GIT_INDEX_FILE" ]; then
  findHead
  g read-tree "$head"
fi

cd /workspace
g ls-files -z --others --modified --deleted --exclude-standard > "$own/changed"
[ -s "$own/changed" ] || [ -f "$own/pending" ] || exit 0
# Until the gate has it.
: > "$own/pending"
# What is larger than GitHub takes is left out. What has gone meanwhile has no size.
bytes=$(($7 * 1024))
{
  printf '.\0'
  { xargs -0 -r stat --printf '%s %n\0' -- < "$own/changed" 2> /dev/null || true; } |
    while IFS= read -r -d '' file; do
      [ "${file%% *}" -le "$bytes" ] || printf ':(exclude,literal)%s\0' "${file#* }"
    done
} > "$own/paths"
code=0
g add -A --ignore-errors --pathspec-from-file="$own/paths" --pathspec-file-nul 2> /dev/null || code=$?
# 128: git takes no such list, as of files in a submodule.
[ "$code" != 128 ] || g add -A --ignore-errors . 2> /dev/null || true

tree=$(g write-tree)
if [ "$tree" != "$(contents pushed)" ]; then
  findHead
  # Before the first one there is nothing to take back.
  if [ -f "$own/pushed" ] || [ "$tree" != "$(g rev-parse "$head^{tree}")" ]; then
    if ! push; then
      findHead asked
      push || exit 75
    fi
    echo "$tree" > "$own/pushed"
    # What earlier ones brought is of no use any more.
    objects=("$own"/objects/[0-9a-f][0-9a-f]/*)
    if [ ${#objects[@]} -gt 2000 ]; then
      g update-ref refs/trimo/snapshot "$commit"
      g prune --expire=now || true
    fi
  fi
fi
rm "$own/pending"
