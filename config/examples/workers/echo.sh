#!/bin/sh
# A worker for crewd in POSIX shell (docs/reference/worker-protocol.md): runs one command, beats while it works, can be
# cancelled. Put your own command into `work`; what it prints is the output of the task.
#
#   [[tasks]]
#   id = "hello"
#   mode = "protocol"
#   command = ["sh", "echo.sh"]

exec 3<&0 4>&1 1>&2 </dev/null # 3: what crewd says, 4: what we say to it; every stray print goes to stderr

say() { printf '%s\n' "$1" >&4; }

# crewd writes `type` and `id` first and no spaces, so that the beginning of a line can be matched.
id_of() { printf '%s\n' "$1" | sed 's/^{"type":"[a-z]*","id":"\([^"]*\)".*/\1/'; }

# A text as JSON: backslashes and quotes escaped, newlines as \n, other control characters left out.
json_text() { tr -d '\000-\010\013-\037' | sed 's/\\/\\\\/g; s/"/\\"/g; s/	/\\t/g' | awk '{ printf "%s%s", n, $0; n = "\\n" }'; }

# What the task is. $1: the whole message of the task, with its payload.
work() {
    case $1 in
    *'"check":"wait"'*) exec sleep 3600 ;;
    *) echo "hello from $(uname -s)" ;;
    esac
}

say '{"type":"ready","protocol":"crewd-worker/1","heartbeat_interval_s":2}'

while IFS= read -r line <&3; do
    case $line in
    '{"type":"ping"'*) say '{"type":"pong"}' ;;
    '{"type":"shutdown"'*) exit 0 ;;
    '{"type":"task"'*) break ;;
    esac
done
id=$(id_of "$line")
[ -n "$id" ] || exit 1 # crewd went away before it said what to do

folder=$(mktemp -d) || exit 1
work "$line" >"$folder/out" 3<&- 4>&- &
job=$!

# Says that the worker lives, until it does no more.
(
    seq=0
    while kill -0 "$job" 2>/dev/null; do
        seq=$((seq + 1))
        say '{"type":"heartbeat","id":"'"$id"'","seq":'"$seq"'}'
        sleep 2 4>&-
    done
) 3<&- &
beats=$!

# Listens; a cancel becomes SIGTERM to the shell that waits for the job.
(
    while IFS= read -r line <&3; do
        case $line in
        '{"type":"ping"'*) say '{"type":"pong"}' ;;
        '{"type":"cancel","id":"'"$id"'"'* | '{"type":"shutdown"'*) kill -TERM $$ ;;
        esac
    done
) &
ears=$!

end() { # the terminal message: the only one, and the last
    trap '' TERM INT
    kill "$job" "$beats" "$ears" 2>/dev/null
    wait "$beats" "$ears" 2>/dev/null
    say "$1"
    rm -rf "$folder"
    exit "$2"
}
trap 'end "{\"type\":\"error\",\"id\":\"$id\",\"class\":\"cancelled\",\"message\":\"cancelled\"}" 1' TERM INT

wait "$job"
status=$?
text=$(json_text <"$folder/out")
if [ "$status" -eq 0 ]; then
    end '{"type":"result","id":"'"$id"'","output":"'"$text"'"}' 0
fi
end '{"type":"error","id":"'"$id"'","class":"task_error","message":"the command ended with '"$status"'"}' 1
