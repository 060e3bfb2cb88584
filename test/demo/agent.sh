#!/bin/bash
# The demo's agent: a script, not a model. It writes AUTHORS from the history, and adds the number of
# commits when the prompt asks how many.
set -e
prompt=$(cat "$TRIMO_PROMPT_FILE")
people() { { git log --format=%aN; git config user.name; } | sort | uniq -c | sort -rn; }
echo "::notice::I list everyone who has written this code in AUTHORS."
if grep -qi "how many" <<<"$prompt"; then
  { echo "# Who wrote this, and how many commits each"; echo; people | sed -E 's/^ *([0-9]+) (.*)/- \2 (\1)/'; } > AUTHORS
  git add AUTHORS
  git commit -m "Say how many commits each author made"
  echo "::notice::AUTHORS now says how many commits each of the $(people | wc -l) authors made."
else
  { echo "# Who wrote this"; echo; people | sed -E 's/^ *[0-9]+ (.*)/- \1/'; } > AUTHORS
  git add AUTHORS
  git commit -m "List the authors"
  echo "::notice::AUTHORS lists $(people | wc -l) authors, taken from the history."
fi
