#!/bin/sh
# Replaces a build script: copies its files and prints its output from the cache. See
# artifact_cache.py.
set -eu
run=${OUT_DIR%/out}
from=$WEARABLE_ARTIFACT_CACHE/${run#"$WEARABLE_TARGET_DIR"/}
# cargo's record of the script's output: from 1.100 on, and before.
printed=$from/run/stdout
[ -f "$printed" ] || printed=$from/output
if [ ! -f "$printed" ]; then
    echo "the artifact cache has no output of $run; run: ./justw setup" >&2
    exit 1
fi
if [ -d "$from/out" ]; then
    cp -pR "$from/out/." "$OUT_DIR/"
fi
LC_ALL=C sed -f "$WEARABLE_OUTPUT_SED" "$printed"
