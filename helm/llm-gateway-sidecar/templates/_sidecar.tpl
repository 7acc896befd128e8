{{/*
The gateway beside an application, in the application's own chart (docs/sidecar.md). Each takes the scope of that
chart (`.`) and finds its values below `llm-gateway-sidecar`.

  llm-gateway.sidecar.initContainers  items of initContainers, before the application's own; nothing in classic mode
  llm-gateway.sidecar.containers      items of containers; nothing in native mode
  llm-gateway.sidecar.env             items of env of each container that talks to a model
  llm-gateway.sidecar.volumes         items of volumes
  llm-gateway.sidecar.gracePeriod     the number for terminationGracePeriodSeconds
  llm-gateway.sidecar.manifests       a file of its own: the ConfigMap, and the PodMonitor if it is on
*/}}

{{/* The values, as YAML: those of the library, with what is computed. */}}
{{- define "llm-gateway.sidecar.values" -}}
{{- $v := index .Values "llm-gateway-sidecar" -}}
{{- if not $v -}}
{{- fail "\n\nllm-gateway-sidecar is not among the dependencies of this chart (without an alias), or `helm dependency build` was not run.\n" -}}
{{- end -}}
{{- if and (eq $v.mode "native") (semverCompare "<1.29.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "\n\nKubernetes %s has no native sidecars (1.29 has): the pod would wait for an init container that never ends.\nSet llm-gateway-sidecar.mode: classic.\n" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- include "llm-gateway.check" (dict "values" $v) -}}
{{- $lameDuck := ternary 0 (int $v.appGraceSeconds) (eq $v.mode "native") -}}
{{- $values := mustMergeOverwrite (deepCopy $v) (dict "config" (dict "server" (dict "lame_duck_seconds" $lameDuck))) -}}
{{- toYaml $values -}}
{{- end -}}

{{- define "llm-gateway.sidecar.configMapName" -}}
{{- $v := index .Values "llm-gateway-sidecar" -}}
{{- default (printf "%s-llm-gateway" (.Release.Name | trunc 51 | trimSuffix "-")) $v.configMapName -}}
{{- end -}}

{{- define "llm-gateway.sidecar.initContainers" -}}
{{- $v := include "llm-gateway.sidecar.values" . | fromYaml -}}
{{- if eq $v.mode "native" -}}
{{- include "llm-gateway.container" (dict "values" $v "name" "llm-gateway" "native" true "portPrefix" "llm-") -}}
{{- end -}}
{{- end -}}

{{- define "llm-gateway.sidecar.containers" -}}
{{- $v := include "llm-gateway.sidecar.values" . | fromYaml -}}
{{- if eq $v.mode "classic" -}}
{{- include "llm-gateway.container" (dict "values" $v "name" "llm-gateway" "native" false "portPrefix" "llm-") -}}
{{- end -}}
{{- end -}}

{{- define "llm-gateway.sidecar.env" -}}
{{- $v := include "llm-gateway.sidecar.values" . | fromYaml -}}
- name: OPENAI_BASE_URL
  value: http://127.0.0.1:{{ int $v.config.server.port }}/v1
{{- if and $v.existingSecret (not $v.config.clients) }}
# Client libraries want one; the gateway puts its own in its place.
- name: OPENAI_API_KEY
  value: the-gateway-has-it
{{- end }}
{{- end -}}

{{- define "llm-gateway.sidecar.volumes" -}}
{{- $v := include "llm-gateway.sidecar.values" . | fromYaml -}}
{{- include "llm-gateway.volumes" (dict "values" $v "configMap" (include "llm-gateway.sidecar.configMapName" .)) -}}
{{- end -}}

{{/*
One budget for the whole pod. Native: the application's time, then the gateway's drain. Classic: both are told at once,
the gateway serves on for the application's time (its lame duck), then drains. The sum is the same; 5 s to end in.
*/}}
{{- define "llm-gateway.sidecar.gracePeriod" -}}
{{- $v := include "llm-gateway.sidecar.values" . | fromYaml -}}
{{- add (int $v.appGraceSeconds) (ceil $v.config.server.drain_seconds) 5 -}}
{{- end -}}

{{- define "llm-gateway.sidecar.labels" -}}
app.kubernetes.io/name: llm-gateway-sidecar
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "llm-gateway.sidecar.manifests" -}}
{{- $v := include "llm-gateway.sidecar.values" . | fromYaml -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "llm-gateway.sidecar.configMapName" . }}
  labels:
    {{- include "llm-gateway.sidecar.labels" . | nindent 4 }}
data:
  gateway.yaml: |
    {{- toYaml $v.config | nindent 4 }}
{{- if $v.podMonitor.enabled }}
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {{ include "llm-gateway.sidecar.configMapName" . }}
  labels:
    {{- include "llm-gateway.sidecar.labels" . | nindent 4 }}
    {{- with $v.podMonitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- toYaml $v.podMonitor.matchLabels | nindent 6 }}
  podMetricsEndpoints:
    - port: llm-admin
      path: /metrics
      interval: {{ $v.podMonitor.interval }}
{{- end }}
{{- end -}}
