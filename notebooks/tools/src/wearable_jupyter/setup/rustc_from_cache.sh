#!/bin/sh
# The RUSTC_WRAPPER that cargo runs: RUSTC ARGUMENT… Links an artifact from the cache if it is there,
# and compiles it otherwise. See artifact_cache.py.
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
# The dep-info file, which rustc always writes.
dep_info=$name$suffix.d
if [ -z "$suffix" ] || [ ! -f "$from/$dep_info" ]; then
    exec "$@"
fi
if [ "$kind" = bin ]; then
    # The only programs among dependencies are build scripts.
    cp "$WEARABLE_BUILD_SCRIPT" "$folder/$name$suffix"
    chmod +x "$folder/$name$suffix"
    touch -r "$from/$name$suffix" "$folder/$name$suffix"
else
    for artifact in "$from/lib$name$suffix".*; do
        # The kernel may forbid hard links to files of another user. Then link symbolically.
        ln -f "$artifact" "$folder/" 2>/dev/null || ln -sf "$artifact" "$folder/" 2>/dev/null ||
            cp -p "$artifact" "$folder/"
    done
fi
LC_ALL=C sed -f "$WEARABLE_DEP_INFO_SED" "$from/$dep_info" > "$folder/$dep_info"
