#!/bin/sh
# Plant the bugs of tests/mutants.list one after the other: each must turn its test red.
# usage: tests/mutants.sh [PATTERN]       only the mutants of such a name, e.g. 'window-*'
#        tests/mutants.sh -n              only look whether each could be planted; part of check
#
# All happens in a copy of the sources, build-mutants/, which is removed when all went well.
# There every test the list names must be green first. Then a line for each mutant:
#
#   killed    as it should be: the first test case that failed, or a crash, or a hang
#   SURVIVED  all green: the tests have a hole
#   BROKEN    it does not compile
#   STALE     the text to be replaced does not stand in the file exactly once
#
# Last line: N mutants, N killed. Exit status 0 only if these are the same number.
#
# To add a mutant write an entry into tests/mutants.list; its first lines say how.
set -u
HANG_S=120 # the slowest test takes a tenth of it
cd "$(dirname "$0")/.." || exit 2
wanted=${1:-*}
[ "$wanted" != -n ] || wanted='*'
unset MAKEFLAGS MAKELEVEL # of a `make mutants`: its options are not for our builds
export BUILD=build CMOCKA_MESSAGE_OUTPUT=TAP

# What git has or would take; without git everything but the build folders.
sources() {
    if [ -e .git ]; then
        git ls-files -co --exclude-standard
    else
        find . -path './build*' -prune -o -type f -print
    fi | while IFS= read -r path; do
        [ ! -f "$path" ] || printf '%s\n' "$path" # removed, and git does not know yet
    done
}

# Call $1 with each wanted entry of the list in $name, $file, $old, $new and $test.
each() {
    while IFS= read -r line; do
        value=${line#?????}
        case $line in
        '' | '#'*) ;;
        'name '*) name=$value old='' new='' ;;
        'file '*) file=$value ;;
        'old  '*) old=${old:+$old$newline}$value ;;
        'new  '*) new=${new:+$new$newline}$value ;;
        'test '*)
            test=$value
            # shellcheck disable=SC2254  # a pattern it is
            case $name in $wanted) "$1" </dev/null ;; esac
            ;;
        *) echo "mutants: not understood: $line" && exit 2 ;;
        esac
    done <tests/mutants.list
}
newline='
'

# $file with $old replaced by $new, to stdout; fails unless $old is there exactly once.
planted() {
    old=$old new=$new awk '
        { text = text $0 "\n" }
        END {
            old = ENVIRON["old"]
            at = index(text, old)
            rest = substr(text, at + length(old))
            printf "%s%s%s", substr(text, 1, at - 1), ENVIRON["new"], rest
            exit at == 0 || index(rest, old) > 0
        }' "$file"
}

# Build what a test needs: itself, or for a system test the programs.
build() {
    case $1 in
    *test_durable.py) set -- all ahead ;;
    *test_memory.py) set -- all build/tests/memory/front ;;
    *.py) set -- all ;;
    *) set -- "$1" ;;
    esac
    make -j"$(nproc)" B=build "$@" >log 2>&1
}

# Run a test, output to log. It gets a process group (that of timeout, its leader), so that
# whatever it leaves running can be ended.
run() {
    case $1 in
    *.py) set -- python3 "$@" ;;
    esac
    timeout -k 5 "$HANG_S" "$@" >log 2>&1 &
    group=$!
    wait "$group"
    code=$?
    end KILL
    group=
    return "$code"
}
end() { [ -z "$group" ] || kill -s "$1" -- "-$group" 2>/dev/null; }
group=
trap 'end TERM; sleep 1; end KILL; exit 2' INT TERM

# Green without any mutant, and not because all was skipped?
check_green() {
    case $tests in
    *"$newline$test$newline"*) return ;;
    esac
    tests=$tests$test$newline
    # shellcheck disable=SC2086  # a program and its arguments
    if build $test && run $test && grep '^ok ' log | grep -qv '# SKIP'; then
        return
    fi
    cat log
    echo "mutants: $test is not green without any mutant"
    exit 2
}

say() { printf '%-8s %-36s %s\n' "$1" "$name" "$2"; }

# What turned red, by the log and the exit status of the last run.
culprit() {
    case $code in
    124 | 137) echo "a hang of $test" ;;
    *) sed -n 's/^not ok [0-9]* - \([^ ]*\).*/\1/p' log | grep . || echo "a crash of $test" ;;
    esac | head -n 1
}

try() {
    total=$((total + 1))
    if ! planted >mutant 2>/dev/null; then
        say STALE "the old text must stand in $file exactly once"
        return
    fi
    cp -p "$file" original
    cat mutant >"$file"
    # shellcheck disable=SC2086  # a program and its arguments
    if ! build $test; then
        say BROKEN "$(grep -m 1 'error:' log)"
    elif run $test; then
        say SURVIVED "$test"
    else
        say killed "by $(culprit)"
        killed=$((killed + 1))
    fi
    cat original >"$file" # with a new time of change, for make to see
}

fits() {
    total=$((total + 1))
    if planted >/dev/null 2>&1; then
        fitting=$((fitting + 1))
    else
        say STALE "the old text must stand in $file exactly once"
    fi
}
if [ "${1:-}" = -n ]; then
    total=0 fitting=0
    each fits
    [ "$fitting" -eq "$total" ]
    exit
fi

rm -rf build-mutants
mkdir build-mutants || exit 2
sources | tar cf - -T - | tar xf - -C build-mutants || exit 2
cd build-mutants || exit 2
tests=$newline total=0 killed=0
each check_green
each try
echo "$total mutants, $killed killed"
[ "$total" -gt 0 ] && [ "$killed" -eq "$total" ] && cd .. && rm -rf build-mutants
