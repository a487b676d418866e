#!/bin/sh
# Run test programs and add up what they report (TAP on stdout).
# usage: tests/run.sh PROGRAM... [-2 PROGRAM...]     $BUILD names the build folder, for the Python
# ones; $EMULATOR runs programs of another machine
#
# One after the other; those behind -2 two at a time: they wait more than they compute.
#
# A line for each program; the whole output of one that failed. Last line: N passed, N failed.
# A program that crashes, hangs (over 300 s) or reports nothing is one failure more.
set -u
export CMOCKA_MESSAGE_OUTPUT=TAP

# TSan needs a predictable address space, which some kernels and containers do not give.
fixed=
setarch "$(uname -m)" -R true 2>/dev/null && fixed="setarch $(uname -m) -R"

# One program: all it has to say at once, and a line "passed failed skipped" in the folder $1.
one() {
    results=$1 program=$2
    start=$(date +%s)
    log=$(mktemp "$results/log.XXXXXX") || exit 2
    case $program in
    *.py) timeout -k 5 300 python3 "$program" >"$log" 2>&1 ;;
    *-tsan/*) timeout -k 5 300 $fixed "$program" >"$log" 2>&1 ;;
    *) timeout -k 5 300 ${EMULATOR-} "$program" >"$log" 2>&1 ;;
    esac
    code=$?
    good=$(grep -c '^ok ' "$log")
    bad=$(grep -c '^not ok ' "$log")
    skip=$(grep -c '^ok .*# SKIP' "$log")
    if [ "$code" -ne 0 ] && [ "$bad" -eq 0 ] || [ $((good + bad)) -eq 0 ]; then
        bad=$((bad + 1))
    fi
    echo "$((good - skip)) $bad $skip" >"$log.sum"
    {
        if [ "$bad" -ne 0 ]; then
            echo "== $program: exit status $code"
            cat "$log"
        fi
        grep '^ok .*# SKIP' "$log" | sed 's/^/   /'
        printf '%-44s %3d passed %2d failed  %3d s\n' "$program" $((good - skip)) "$bad" \
            $(($(date +%s) - start))
    } >"$log.said"
    cat "$log.said"
}

if [ "${1-}" = --one ]; then
    one "$2" "$3"
    exit
fi

folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
while [ $# -gt 0 ] && [ "$1" != -2 ]; do
    one "$folder" "$1"
    shift
done
if [ $# -gt 1 ]; then
    shift
    printf '%s\n' "$@" | xargs -n 1 -P 2 "$0" --one "$folder"
fi

passed=0 failed=0 skipped=0
for sum in "$folder"/log.*.sum; do
    [ -f "$sum" ] || continue
    read -r good bad skip <"$sum"
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + skip))
done
[ "$skipped" -eq 0 ] || echo "$skipped skipped, with the reasons above"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
