#!/bin/sh
# cargo calls this in rustc's place (RUSTC_WRAPPER): RUSTC ARGUMENTS. What the store has compiled is
# taken from there; the rest is compiled. See artifact_cache.py.
set -eu
name= suffix= folder= kind= previous=
for argument; do
    case "$previous $argument" in
        "--crate-name "*) name=$argument ;;
        "--crate-type "*) kind=$argument ;;
        "--out-dir "*) folder=$argument ;;
        "-C extra-filename="*) suffix=${argument#extra-filename=} ;;
    esac
    previous=$argument
done
from=$WEARABLE_ARTIFACT_CACHE/${folder#"$WEARABLE_TARGET_DIR"/}
# What rustc has read for it, a file that it always leaves.
notes=$name$suffix.d
if [ -z "$suffix" ] || [ ! -f "$from/$notes" ]; then
    exec "$@"
fi
if [ "$kind" = bin ]; then
    # No dependency has other programs than build scripts.
    cp "$WEARABLE_BUILD_SCRIPT" "$folder/$name$suffix"
    chmod +x "$folder/$name$suffix"
    touch -r "$from/$name$suffix" "$folder/$name$suffix"
else
    for made in "$from/lib$name$suffix".*; do
        # Where it may not be linked, for it is another user's, a symbolic link will do.
        ln -f "$made" "$folder/" 2>/dev/null || ln -sf "$made" "$folder/" 2>/dev/null ||
            cp -p "$made" "$folder/"
    done
fi
LC_ALL=C sed -f "$WEARABLE_DEP_INFO_SED" "$from/$notes" > "$folder/$notes"
