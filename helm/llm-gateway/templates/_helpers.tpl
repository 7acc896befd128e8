{{- define "llm-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "llm-gateway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "llm-gateway.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "llm-gateway.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "llm-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "llm-gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "llm-gateway.labels" -}}
{{ include "llm-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "llm-gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "llm-gateway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Seconds from SIGTERM to SIGKILL: what the gateway promises to need, and 5 to settle its accounts and exit. */}}
{{- define "llm-gateway.gracePeriod" -}}
{{- add (ceil .Values.config.server.lame_duck_seconds) (ceil .Values.config.server.drain_seconds) 5 }}
{{- end }}

{{/* How many replicas there may be. */}}
{{- define "llm-gateway.maxReplicas" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicas .Values.autoscaling.enabled | int -}}
{{- end }}

{{/* How many there are at least. */}}
{{- define "llm-gateway.minReplicas" -}}
{{- ternary .Values.autoscaling.minReplicas .Values.replicas .Values.autoscaling.enabled | int -}}
{{- end }}

{{/* Stops, in words, what would render and not work. */}}
{{- define "llm-gateway.validate" -}}
{{- include "llm-gateway.check" (dict "values" .Values) -}}
{{- $max := include "llm-gateway.maxReplicas" . | int -}}
{{- $who := ternary "autoscaling.maxReplicas" "replicas" .Values.autoscaling.enabled -}}
{{- $state := toString (dig "state" "url" "memory://" (.Values.config | toJson | fromJson)) -}}
{{- if and (gt $max 1) (not (regexMatch "^(rediss?://|\\$\\{)" $state)) -}}
{{- fail (printf "\n\n%s is %d, and config.state.url is %s: each replica would keep briefs, sessions and limits of its own, and a chat that\nmeets another replica would find nothing of itself. Set config.state.url: ${REDIS_URL}, and secretEnv.REDIS_URL to the\nkey of your Secret that holds redis://...; or keep to one replica.\n" $who $max $state) -}}
{{- end -}}
{{- $facts := .Values.config | toJson | fromJson | dig "facts" (dict) -}}
{{- $factsUrl := toString (get $facts "url" | default "memory://") -}}
{{- $factsOn := ternary $facts.enabled true (hasKey $facts "enabled") -}}
{{- if and (gt $max 1) $factsOn (not (regexMatch "^(postgres(ql)?://|\\$\\{)" $factsUrl)) -}}
{{- fail (printf "\n\n%s is %d, and config.facts.url is %s: each replica would remember facts of its own, and answer from those.\nSet config.facts.url: ${FACTS_URL}, and secretEnv.FACTS_URL to the key of your Secret that holds postgresql://...;\nor config.facts.enabled: false.\n" $who $max $factsUrl) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail (printf "\n\nautoscaling.minReplicas %d is above autoscaling.maxReplicas %d.\n" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- end }}
