# What several stages' scripts need; sourced at the top of the repository.

# program TEST: the file that cargo makes of a test of that name, built first
program() {
    local file
    file=$(cargo test --release --test "$1" --no-run --message-format=json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\/'"$1"'-[^"]*\)".*/\1/p' | tail -1)
    [ -x "$file" ] || { echo "it does not build: cargo test --release --test $1" >&2; return 1; }
    echo "$file"
}

# port STREAM|DGRAM: a free one on loopback
port() { python3 -c "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_$1); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])"; }
