set quiet
# Passes each argument separately, because an option's value may contain spaces.
set positional-arguments

# -I and -X utf8 make Python ignore PYTHON* variables and the locale.
tools := ".venv/bin/python -I -X utf8 -m wearable_jupyter"
# The directory of the user's shell, to which paths of notebooks are relative. justw sets it.
caller := invocation_directory()

# List the recipes
[private]
default:
    @{{ quote(just_executable()) }} --list --unsorted --justfile {{ quote(justfile()) }}

# Run notebooks (default: all) and write HTML to outputs/; generates the small dataset if data/ has none
[no-exit-message]
run *notebooks: _environment
    {{ tools }} run --caller {{ quote(caller) }} "$@"

# Run linters and all Rust, Python and notebook tests; options are passed to pytest (-n 0: one process)
[no-exit-message]
test *options: _environment
    {{ tools }} test "$@"

# Run the tests that take one to two hours: unusual environment settings, many kernels; options are passed to pytest
[no-exit-message]
test-long *options: _environment
    {{ tools }} setup
    cd notebooks/tools && ../../.venv/bin/python -I -X utf8 -m pytest -m long "$@"

# Open the walkthrough, or one of your notebooks, in JupyterLab; options are passed to JupyterLab
[no-exit-message]
lab *options: _environment
    {{ tools }}.lab {{ quote(caller) }} "$@"

# Copy the exercises into your own directory (default: exercises/), keeping existing files; --nbgrader writes a course
[no-exit-message]
exercises *options: _environment
    {{ tools }} exercises --caller {{ quote(caller) }} "$@"

# Export notebooks as HTML that works without a network, after running those that changed; --no-code, --slides
[no-exit-message]
html *notebooks: _environment
    {{ tools }} html --caller {{ quote(caller) }} "$@"

# Run notebooks (default: all) and compare their outputs with the snapshots; --update accepts the new outputs
[no-exit-message]
check *notebooks: _environment
    {{ tools }} check --caller {{ quote(caller) }} "$@"

# Generate a dataset in data/: small (1,000,000 rows), large (10,000,000) or a number of rows; for options: data small --help
[no-exit-message]
data size="small" *options: _environment
    {{ tools }} data "$@"

# Install everything: downloaded from the repository's releases, from a bundle with --from FILE, or compiled with --compile
[no-exit-message]
setup *options: _environment
    {{ tools }} setup "$@"

# Pack installed and compiled packages into one file, for setup --from on other machines; --toolchain includes Rust
[no-exit-message]
offline-bundle *options: _environment
    {{ tools }} offline-bundle "$@"

# Install the kernel for your other Jupyter clients, such as VS Code; --remove uninstalls it
[no-exit-message]
install-kernel *options: _environment
    {{ tools }} install-kernel "$@"

# Check the installation and print the command that fixes each problem
[no-exit-message]
doctor: _environment
    {{ tools }} doctor

# Time Rust against Python, some minutes each: `bench kernel`, `bench lab`, `bench queries` or `bench generate`
[no-exit-message]
bench benchmark="kernel" *options: _environment
    {{ tools }} bench "$@"

# Start a cluster on this machine (--engine sail or spark, --workers N); also `cluster query`, `cluster test`, `cluster measure`
[no-exit-message]
cluster *options: _environment
    {{ tools }} cluster "$@"

# Format Rust, Python and notebooks; removes outputs from notebooks
[no-exit-message]
fmt: _environment
    {{ tools }} fmt

# Check formatting and run linters; warnings are errors
[no-exit-message]
lint: _environment
    {{ tools }} lint

# Delete the files in outputs/ and data/, but keep compiled code
clean:
    find outputs data -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
    find notebooks -depth \( -name __pycache__ -o -name '.*_cache' -o -name .ipynb_checkpoints \) -exec rm -rf {} +

# Like clean, and delete compiled code and the Python environment; keeps the shared cache
distclean: clean
    rm -rf target .venv .venv.lock

_environment:
    @./justw --environment
