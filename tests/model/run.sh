#!/bin/sh
# Check the models with spin: every interleaving, every old write a thread may still read.
# usage: tests/model/run.sh [proof] MODEL.pml...        $BUILD names the build folder
#
# A model's header lists its runs, each a set of macros:
#   RUN macros        must hold, and be searched to the end
#   PROOF macros      likewise; only with "proof", they take minutes
#   BUG name (macros) text      with this bug planted an assertion must fail
# To see how a bug does it:  spin -Dbug -a MODEL.pml && cc -DSAFETY -DVECTORSZ=2048 -o pan
#   pan.c && ./pan -m200000; spin -Dbug -t MODEL.pml     (thread, value, [location])
set -u
kinds=RUN
[ "${1-}" = proof ] && kinds='RUN|PROOF' && shift
failed=0 runs=0 bugs=0

# search NAME OPTIMIZE MACRO...: leaves pan's report in $folder/log
search() {
    folder=${BUILD:-build}/tests/model/$1 optimize=$2 flags=
    shift 2
    mkdir -p "$folder"
    for macro; do flags="$flags -D$macro"; done
    # shellcheck disable=SC2086 # lists of words
    (
        dir=$(dirname "$model")
        cp "$dir"/weak.pml "$model" "$folder" && cd "$folder" || exit 2
        spin $flags -a "$(basename "$model")" || exit 2
        ${CC:-cc} "$optimize" -w -DSAFETY -DVECTORSZ=2048 -DMEMLIM=6000 -DCOLLAPSE -o pan pan.c || exit 2
        # The stopped ones of LONE are no deadlock.
        ./pan -m200000 $(case "$flags" in *LONE*) echo -E ;; esac)
    ) >"$folder/log" 2>&1
}

bad() {
    echo "not ok: $1: $2"
    tail -20 "$folder/log"
    failed=$((failed + 1))
}

must_hold() { # NAME MACRO...
    runs=$((runs + 1)) name=$1 start=$(date +%s)
    shift
    search "$name.run$runs" -O1 "$@"
    if grep -q 'errors: 0' "$folder/log" && ! grep -qE 'max search depth|not completed' "$folder/log"; then
        echo "$name $*: holds,$(sed -n 's/^ *\([0-9e+.]*\) states, stored.*/ \1 states/p' \
            "$folder/log"), $(($(date +%s) - start)) s"
    else
        bad "$name $*" "does not hold, or was not searched to the end"
    fi
}

must_fail() { # NAME BUG MACRO...
    bugs=$((bugs + 1)) name=$1 bug=$2
    shift 2
    search "$name.$bug" -O0 "$bug" "$@"
    # An assertion of the model, not weak.pml's own about DEPTH.
    grep 'assertion violated' "$folder/log" | grep -qvE '\.last<|invalid' ||
        bad "$name" "the planted bug $bug was not found"
}

for model; do
    name=$(basename "$model" .pml)
    # shellcheck disable=SC2086 # macros, as words
    while read -r _ kind rest; do
        if echo "$kind" | grep -qxE "$kinds"; then
            must_hold "$name" $rest
        else
            macros=$(echo "$rest" | sed -n 's/^[a-z_]* *(\([A-Z][^)]*\)).*/\1/p')
            must_fail "$name" "${rest%% *}" $macros
        fi
    done <<LIST
$(grep -E "^ \* ($kinds|BUG)( |\$)" "$model")
LIST
done
[ "$failed" -eq 0 ] && echo "model $name: all runs hold, and all $bugs planted bugs are found"
[ "$failed" -eq 0 ]
