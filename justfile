set quiet
# As words, and not as one text: an option's value may have spaces.
set positional-arguments

# PYTHON* variables and the locale change nothing.
tools := ".venv/bin/python -I -X utf8 -m wearable_jupyter"
# Where the command was given; paths of notebooks count from there. justw sets it.
caller := invocation_directory()

# List the recipes
[private]
default:
    @{{ quote(just_executable()) }} --list --unsorted --justfile {{ quote(justfile()) }}

# Run notebooks, all if none is named, with the small dataset if there is none; HTML goes to outputs/
[no-exit-message]
run *notebooks: _environment
    {{ tools }} run --caller {{ quote(caller) }} "$@"

# Run all tests: linters, Rust, Python and notebooks; options go to pytest
[no-exit-message]
test *options: _environment
    {{ tools }} test "$@"

# Run the tests that take an hour: hostile settings of the environment, and many kernels; options go to pytest
[no-exit-message]
test-long *options: _environment
    {{ tools }} setup
    cd notebooks/tools && ../../.venv/bin/python -I -X utf8 -m pytest -m long "$@"

# Open JupyterLab on the walkthrough
[no-exit-message]
lab *options: _environment
    {{ tools }}.lab "$@"

# Write notebooks as HTML for a room without a network; --no-code, --slides
[no-exit-message]
html *notebooks: _environment
    {{ tools }} html --caller {{ quote(caller) }} "$@"

# Run notebooks as a reviewer does and compare what they show; --update keeps it as expected
[no-exit-message]
check *notebooks: _environment
    {{ tools }} check --caller {{ quote(caller) }} "$@"

# Write a dataset into data/: small (1,000,000 rows), large (10,000,000) or a number of rows; options: data small --help
[no-exit-message]
data size="small" *options: _environment
    {{ tools }} data "$@"

# Install and compile everything, and run nothing; --from FILE takes it from a bundle instead
[no-exit-message]
setup *options: _environment
    {{ tools }} setup "$@"

# Write what is installed and compiled into one file, from which other machines are set up in a minute; --toolchain
[no-exit-message]
offline-bundle *options: _environment
    {{ tools }} offline-bundle "$@"

# Install the kernel for your other Jupyters, VS Code's among them; --remove takes it away
[no-exit-message]
install-kernel *options: _environment
    {{ tools }} install-kernel "$@"

# Say what is ready and what is not, and the command that mends it
[no-exit-message]
doctor: _environment
    {{ tools }} doctor

# Measure, beside the same in Python: `bench kernel`, `bench lab`, `bench queries` or `bench generate`, some minutes each
[no-exit-message]
bench what="kernel" *options: _environment
    {{ tools }} bench "$@"

# Start a cluster on this machine: --engine sail or spark, --workers N; then `cluster query`; `cluster test`, `cluster measure`
[no-exit-message]
cluster *options: _environment
    {{ tools }} cluster "$@"

# Format Rust, Python and notebooks; takes outputs out of notebooks
[no-exit-message]
fmt: _environment
    {{ tools }} fmt

# Check formatting and lints; warnings are errors
[no-exit-message]
lint: _environment
    {{ tools }} lint

# Remove what runs leave in outputs/ and data/; compiled code stays
clean:
    find outputs data -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
    find notebooks -depth \( -name __pycache__ -o -name '.*_cache' -o -name .ipynb_checkpoints \) -exec rm -rf {} +

# clean, and remove compiled code and the Python environment; the shared cache folder stays
distclean: clean
    rm -rf target .venv .venv.lock

_environment:
    @./justw --environment
