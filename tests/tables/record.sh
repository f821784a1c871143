#!/bin/sh
# Records the option tables of one FFmpeg for the tests: names, types, ranges, defaults and named values, without the help.
#   FFMPEG=/path/to/ffmpeg CONTEXT="libvpx-vp9 libaom-av1" tests/tables/record.sh > tests/tables/ffmpeg-X.Y.txt
# CONTEXT names the encoders whose statistics came through memory in a two-frame trial (`repass encoders` tells).
set -eu
FFMPEG=${FFMPEG:-ffmpeg}
strip() {
    awk '
    /^    Supported pixel formats:/ { sub(/.*: /, ""); print "formats " $0; next }
    /^  -/ {
        from = ""; value = ""
        if (match($0, /\(from [^ ]+ to [^ )]+\)/)) from = " " substr($0, RSTART, RLENGTH)
        if (match($0, /\(default .*\)$/)) value = " " substr($0, RSTART, RLENGTH)
        if ($3 ~ /^E..V/) { print "  " $1 " " $2 from value; kept = 1 } else kept = 0
        next
    }
    /^     [^ ]/ && kept { print "     " $1 ($2 ~ /^-?[0-9]+$/ ? " " $2 : "") }'
}
echo "libavcodec $($FFMPEG -hide_banner -version | awk '/^libavcodec/ { gsub(/ /, "", $0); sub(/libavcodec/, ""); sub(/\/.*/, ""); print }')"
echo "context $CONTEXT"
echo "encoder generic"
$FFMPEG -hide_banner -h full 2>/dev/null | awk '/^AVCodecContext AVOptions:/ { on = 1 } on && /^$/ { exit } on' | strip
for encoder in libx264 libx265 libvpx-vp9 libaom-av1 libsvtav1 libvvenc \
    h264_nvenc hevc_nvenc av1_nvenc h264_qsv hevc_qsv av1_qsv h264_amf hevc_amf av1_amf \
    h264_videotoolbox hevc_videotoolbox prores_videotoolbox av1_videotoolbox; do
    text=$($FFMPEG -hide_banner -h encoder=$encoder 2>/dev/null) || true
    case $text in *AVOptions*) echo "encoder $encoder"; printf '%s\n' "$text" | strip ;; esac
done
