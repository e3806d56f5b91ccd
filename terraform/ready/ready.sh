#!/bin/sh
# Waits for each line of WAITS (CONDITION NAMESPACE RESOURCE/NAME) until TIMEOUT_S seconds have
# passed for all of them together. What is not ready then is named with its conditions, and the exit
# code is 1.
set -eu
command -v kubectl >/dev/null || {
    printf 'kubectl is missing here, and the waits between the steps are done with it\n' >&2
    exit 3
}

kube() {
    kubectl ${KUBE_CONTEXT:+"--context=$KUBE_CONTEXT"} ${NAMESPACE:+"--namespace=$NAMESPACE"} "$@"
}

deadline=$(($(date +%s) + TIMEOUT_S))
printf '%s\n' "$WAITS" | while read -r condition NAMESPACE object; do
    [ -n "$condition" ] || continue
    [ "$NAMESPACE" != - ] || NAMESPACE=
    left=$((deadline - $(date +%s)))
    [ "$left" -gt 0 ] || left=1 # kubectl takes 0 for "ask once" and less for a week
    if [ "$condition" = rollout ]; then
        set -- rollout status "$object" "--timeout=${left}s"
    else
        set -- wait "--for=$condition" "$object" "--timeout=${left}s"
    fi
    kube "$@" </dev/null && continue
    printf '%s %s is not ready (%s). Its conditions:\n' \
        "${NAMESPACE:-cluster}" "$object" "$condition" >&2
    each='  {.type}={.status} {.reason} {.message}{"\n"}'
    kube get "$object" -o "jsonpath={range .status.conditions[*]}$each{end}" </dev/null >&2 || true
    [ -z "${HINT:-}" ] || printf '%s\n' "$HINT" >&2
    exit 1
done
