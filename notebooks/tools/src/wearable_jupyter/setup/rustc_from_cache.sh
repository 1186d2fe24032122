#!/bin/sh
# The RUSTC_WRAPPER that cargo runs: RUSTC ARGUMENT… Links an artifact from the cache, or a library of
# the workspace that is compiled already, and compiles everything else. See artifact_cache.py and
# own_libraries.py.
set -eu
name= suffix= folder= kind= emitted= previous=
for argument; do
    case "$previous $argument" in
        "--crate-name "*) name=$argument ;;
        "--crate-type "*) kind=$argument ;;
        "--out-dir "*) folder=$argument ;;
        "-C extra-filename="*) suffix=${argument#extra-filename=} ;;
        *" --emit="*link*) emitted=link ;;
        *" --emit="*metadata*) emitted=metadata ;;
    esac
    previous=$argument
done

# Links FILE to a path.
provide() {
    # The kernel may forbid hard links to files of another user. Then link symbolically.
    ln -f "$1" "$2" 2>/dev/null || ln -sf "$1" "$2" 2>/dev/null || cp -p "$1" "$2"
}

own=${WEARABLE_OWN_LIBRARIES-}
if [ -n "$own" ]; then own=$own/$emitted/$name; fi
if [ -f "$own.rlib" ] || [ -f "$own.rmeta" ]; then
    case $kind in
        lib | rlib | dylib)
            for artifact in "$own".*; do
                provide "$artifact" "$folder/lib$name$suffix.${artifact##*.}"
            done
            # The list of sources has this clone's paths, so rustc writes it, which takes a moment.
            for argument; do
                shift
                case $argument in --emit=*) argument=--emit=dep-info ;; esac
                set -- "$@" "$argument"
            done
            exec "$@"
            ;;
    esac
fi

[ -n "${WEARABLE_ARTIFACT_CACHE-}" ] || exec "$@"
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
        provide "$artifact" "$folder/${artifact##*/}"
    done
fi
LC_ALL=C sed -f "$WEARABLE_DEP_INFO_SED" "$from/$dep_info" > "$folder/$dep_info"
