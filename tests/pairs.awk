# pairs.awk - both ends of every ordered atomic are named, and named where they stand.
#
#   pairs[NAME.rel] and pairs[NAME.acq] stand in comments beside the atomic they speak of.
#   1. A label with only one end is an error.
#   2. An atomic operation that is ordered (acquire, release, acq_rel; seq_cst is its own
#      total order and says so in words) and has no label in the 12 lines up to it is an error.
FNR == 1 { seen = -100 }
{
    rest = $0
    while (match(rest, /pairs\[[a-z_]+\.(rel|acq)\]/)) {
        label = substr(rest, RSTART + 6, RLENGTH - 7)
        split(label, part, ".")
        ends[part[1]] = ends[part[1]] part[2] " "
        rest = substr(rest, RSTART + RLENGTH)
        seen = FNR
    }
    if ($0 ~ /seq_cst:|is seq_cst/) seen = FNR
}
/memory_order_(acquire|release|acq_rel)/ && FNR - seen > 12 {
    print FILENAME ":" FNR ": an ordered atomic without a pairs[] label near it: " $0
    bad = 1
}
END {
    for (name in ends)
        if (ends[name] !~ /rel/ || ends[name] !~ /acq/) {
            print "pairs[" name "]: only one end (" ends[name] ")"
            bad = 1
        }
    exit bad
}
