#!/bin/sh
# Run test programs one after the other and add up what they report (TAP on stdout).
# usage: tests/run.sh PROGRAM...        $BUILD names the build folder, for the Python ones;
# $EMULATOR runs programs of another machine
#
# A line for each program; the whole output of one that failed. Last line: N passed, N failed.
# A program that crashes, hangs (over 300 s) or reports nothing is one failure more.
set -u
passed=0 failed=0 skipped=0
log=$(mktemp) || exit 2
trap 'rm -f "$log"' EXIT
export CMOCKA_MESSAGE_OUTPUT=TAP

# TSan needs a predictable address space, which some kernels and containers do not give.
fixed=
setarch "$(uname -m)" -R true 2>/dev/null && fixed="setarch $(uname -m) -R"

for program in "$@"; do
    start=$(date +%s)
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
    passed=$((passed + good - skip)) failed=$((failed + bad)) skipped=$((skipped + skip))
    if [ "$bad" -ne 0 ]; then
        echo "== $program: exit status $code"
        cat "$log"
    fi
    grep '^ok .*# SKIP' "$log" | sed 's/^/   /'
    printf '%-44s %3d passed %2d failed  %3d s\n' "$program" $((good - skip)) "$bad" \
        $(($(date +%s) - start))
done
[ "$skipped" -eq 0 ] || echo "$skipped skipped, with the reasons above"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
