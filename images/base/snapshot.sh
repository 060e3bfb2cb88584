#!/bin/bash
# One snapshot: everything uncommitted, as a commit on top of what the gate has, at its refs/trimo/snapshot.
# Nothing is done where nothing has changed since the last one. The index lies in FOLDER, as git left it after
# the clone, so that what the agent does to its .git hinders nothing.
# Usage: snapshot.sh FOLDER REMOTE SNAPSHOT_REMOTE BRANCH NAME EMAIL FILE_KB_MAX
# Prints the CPU's time last. Exit 75: the gateway does not answer, or refuses, or there is too much. After
# another failure the next one begins anew.
set -e
finish() {
  code=$?
  [ "$code" = 0 ] || [ "$code" = 75 ] || rm -rf "${own:?}"/*
  times
}
trap finish EXIT
own=$1 remote=$2 snapshots=$3 branch=$4 name=$5 email=$6
# First in line when memory runs out, before the agent; and never much of it.
echo 1000 > /proc/self/oom_score_adj 2> /dev/null || true
g() {
  /usr/bin/git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.autocrlf=false -c http.proxy= \
    -c pack.threads=1 -c pack.windowMemory=32m -c core.bigFileThreshold=8m "$@"
}
export GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0
# Of an earlier one that was ended.
! compgen -G "$own/*.lock" > /dev/null || rm -f "$own"/*.lock
if [ ! -f "$own/HEAD" ]; then
  g init --quiet --bare "$own"
  [ ! -d /workspace/.git/objects ] || echo /workspace/.git/objects > "$own/objects/info/alternates"
fi
export GIT_DIR=$own GIT_WORK_TREE=/workspace GIT_INDEX_FILE=$own/index.trimo

contents() { [ ! -f "$own/$1" ] || echo "$(< "$own/$1")"; }
# The commit that the gate has: as the agent's git knows it since its last push, else as the gate says. Its
# trees are the agent's own objects where they are whole.
findHead() {
  head=
  [ "$1" = asked ] || read -r head < "/workspace/.git/refs/remotes/origin/$branch" || true
  [[ $head =~ ^[0-9a-f]{40}$ ]] || head=$(g ls-remote "$remote" "refs/heads/$branch")
  head=${head:0:40}
  [ -n "$head" ] || exit 75
  if [ "$head" != "$(contents head)" ]; then
    g cat-file -e "$head^{tree}" || g fetch --quiet --no-tags --depth=1 "$remote" "$head" || exit 75
    echo "$head" > "$own/head"
  fi
} 2> /dev/null
push() {
  commit=$(GIT_AUTHOR_NAME=$name GIT_AUTHOR_EMAIL=$email GIT_COMMITTER_NAME=$name GIT_COMMITTER_EMAIL=$email g commit-tree "$tree" -p "$head" -m Snapshot)
  g push --quiet "$snapshots" "+$commit:refs/trimo/snapshot"
}

if [ ! -f "$GIT_INDEX_FILE" ]; then
  findHead asked
  g read-tree "$head"
fi
cd /workspace
g ls-files -z --others --modified --deleted --exclude-standard > "$own/changed"
[ -s "$own/changed" ] || [ -f "$own/pending" ] || exit 0
# Until the gate has it.
: > "$own/pending"
# What earlier ones brought is of no use any more.
objects=("$own"/objects/[0-9a-f][0-9a-f]/*)
[ ${#objects[@]} -le 1000 ] || g prune --expire=now || true

# What is larger than GitHub takes is left out. What has gone meanwhile has no size.
bytes=$(($7 * 1024)) all=0
{
  printf '.\0'
  while IFS= read -r -d '' file; do
    if [ "${file%% *}" -le "$bytes" ]; then all=$((all + ${file%% *})); else printf ':(exclude,literal)%s\0' "${file#* }"; fi
  done < <(xargs -0 -r stat --printf '%s %n\0' -- < "$own/changed" 2> /dev/null || true)
} > "$own/paths"
if [ "$all" -gt $((256 * 1024 * 1024)) ]; then
  echo "more than 256 MB are not committed" >&2
  exit 75
fi
code=0
g add -A --ignore-errors --pathspec-from-file="$own/paths" --pathspec-file-nul 2> /dev/null || code=$?
# 128: git takes no such list, as of files in a submodule.
[ "$code" != 128 ] || g add -A --ignore-errors . 2> /dev/null || true

tree=$(g write-tree)
if [ "$tree" != "$(contents pushed)" ]; then
  findHead
  # Before the first one there is nothing to take back.
  if [ -f "$own/pushed" ] || [ "$tree" != "$(g rev-parse "$head^{tree}")" ]; then
    if ! push 2> /dev/null; then
      findHead asked
      push || exit 75
    fi
    g update-ref refs/trimo/snapshot "$commit"
    echo "$tree" > "$own/pushed"
  fi
fi
rm "$own/pending"
