# Completion of platter for bash.  Options and their values come from the program's own tables
# (platter dump-options tsv: command, option, letter, value, choices), so they cannot be out of date.

_platter_table() {
    "${COMP_WORDS[0]}" dump-options tsv "$@" 2>/dev/null
}

_platter_formats() {
    "${COMP_WORDS[0]}" formats 2>/dev/null | awk 'NR > 1 { print $1 }'
}

# The actions of command $1, from its help: "(create|list|...)"; fails where it has none.
_platter_actions() {
    "${COMP_WORDS[0]}" "$1" --help 2>/dev/null |
        sed -n '3s/.*(\([a-z]*|[a-z|]*\)).*/\1/p' | tr '|' ' ' | grep .
}

# The candidates for the value of option $2 ("--name" or "-x") of command $1, one a line; fails where
# the option takes none.
_platter_values() {
    local row
    row=$(_platter_table "$1" | awk -F '\t' -v option="$2" \
        '("--" $2 == option || "-" $3 == option) && $4 != "-" { print $4 "\t" $5; exit }')
    [[ $row ]] || return 1
    local metavar=${row%%$'\t'*} choices=${row#*$'\t'}
    if [[ $choices ]]; then
        tr ' ' '\n' <<<"$choices"
    elif [[ $metavar == FORMAT ]]; then
        _platter_formats
    elif [[ $metavar == FILE ]]; then
        compgen -f -- "$3"
    elif [[ $metavar == DIR ]]; then
        compgen -d -- "$3"
    fi
}

_platter() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]} values
    local -a words=()
    COMPREPLY=()

    if ((COMP_CWORD == 1)) || { ((COMP_CWORD == 2)) && [[ $command == help ]]; }; then
        mapfile -t words < <(_platter_table | cut -f 1 | uniq)
        ((COMP_CWORD > 1)) || words+=(help --help --version)
        mapfile -t COMPREPLY < <(compgen -W "${words[*]}" -- "$word")
        return
    fi
    # bash breaks words at "=": --name = VALUE are three of them.
    if [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    elif [[ $word == = ]]; then
        word=
    fi
    if ((COMP_CWORD == 2)) && values=$(_platter_actions "$command"); then
        mapfile -t words < <(compgen -W "$values" -- "$word")
        ((${#words[@]})) && COMPREPLY=("${words[@]}") && return
    fi
    if [[ $previous == -* ]] && values=$(_platter_values "$command" "$previous" "$word"); then
        mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word")
    elif [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(_platter_table "$command" | awk -F '\t' \
            '{ print "--" $2 ($4 != "-" ? "=" : "") }' | grep -F -e "$word")
        [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
    fi
}

complete -o default -o bashdefault -F _platter platter
