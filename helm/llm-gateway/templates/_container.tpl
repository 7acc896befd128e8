{{/*
What a gateway's container is, wherever it runs. The charts llm-gateway and llm-gateway-sidecar hold this file in equal
copies (a test compares them), so that neither needs the other.

All take a dict: values (of the chart), and what is said beside each.
*/}}

{{- define "llm-gateway.image" -}}
{{- $image := .values.image -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $image.repository $image.digest }}
{{- else -}}
{{ printf "%s:%s" $image.repository $image.tag }}
{{- end -}}
{{- end -}}

{{/* name, configMap, native (restartPolicy Always), portPrefix ("" or "llm-"). One item of a list of containers. */}}
{{- define "llm-gateway.container" -}}
{{- $v := .values -}}
{{- $server := $v.config.server -}}
- name: {{ .name }}
  image: {{ include "llm-gateway.image" . | quote }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  {{- if .native }}
  # A native sidecar: it starts before the application's containers and ends after them.
  restartPolicy: Always
  {{- end }}
  args: [serve]
  env:
    - name: LLM_GATEWAY_CONFIG
      value: /etc/llm-gateway/gateway.yaml
    {{- range $variable, $key := $v.secretEnv }}
    {{- if kindIs "map" $key }}
    - name: {{ $variable }}
      valueFrom:
        secretKeyRef:
          name: {{ $key.name }}
          key: {{ $key.key }}
    {{- else if $v.existingSecret }}
    - name: {{ $variable }}
      valueFrom:
        secretKeyRef:
          name: {{ $v.existingSecret }}
          key: {{ $key }}
    {{- else }}
    - name: {{ $variable }}
      value: ""
    {{- end }}
    {{- end }}
  ports:
    - name: {{ .portPrefix }}http
      containerPort: {{ $server.port }}
      protocol: TCP
    - name: {{ .portPrefix }}admin
      containerPort: {{ $server.admin_port }}
      protocol: TCP
  # Up to 60 s to come up; a start takes one or two looks. /health/ready, since only then the data port answers.
  startupProbe:
    httpGet:
      path: /health/ready
      port: {{ .portPrefix }}admin
    periodSeconds: 1
    timeoutSeconds: 2
    failureThreshold: 60
  livenessProbe:
    httpGet:
      path: /health/live
      port: {{ .portPrefix }}admin
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 3
  readinessProbe:
    httpGet:
      path: /health/ready
      port: {{ .portPrefix }}admin
    periodSeconds: 5
    timeoutSeconds: 2
    failureThreshold: 2
  resources:
    {{- toYaml $v.resources | nindent 4 }}
  # Pod security "restricted", said here and not for the pod, which may be another's.
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
    seccompProfile:
      type: RuntimeDefault
  volumeMounts:
    # The folder, not one file by subPath, which would never be renewed: a changed ConfigMap arrives, and is applied.
    - name: llm-gateway-config
      mountPath: /etc/llm-gateway
      readOnly: true
    {{- if $v.secretFiles }}
    - name: llm-gateway-secret
      mountPath: /etc/llm-gateway-secret
      readOnly: true
    {{- end }}
    {{- if gt (int (default 1 $server.workers)) 1 }}
    # What workers share while they run.
    - name: llm-gateway-tmp
      mountPath: /tmp
    {{- end }}
    {{- if $v.data.enabled }}
    - name: llm-gateway-data
      mountPath: /var/lib/llm-gateway
    {{- end }}
{{- end -}}

{{/* configMap. Items of a pod's list of volumes. */}}
{{- define "llm-gateway.volumes" -}}
{{- $v := .values -}}
- name: llm-gateway-config
  configMap:
    name: {{ .configMap }}
{{- if $v.secretFiles }}
- name: llm-gateway-secret
  secret:
    secretName: {{ $v.secretFiles }}
{{- end }}
{{- if gt (int (default 1 $v.config.server.workers)) 1 }}
- name: llm-gateway-tmp
  emptyDir:
    sizeLimit: 256Mi
{{- end }}
{{- if $v.data.enabled }}
- name: llm-gateway-data
  emptyDir:
    sizeLimit: {{ $v.data.sizeLimit }}
{{- end }}
{{- end -}}

{{/* Stops, in words, what Kubernetes would accept and the gateway would not, or not as it was meant. */}}
{{- define "llm-gateway.check" -}}
{{- $v := .values -}}
{{- range (regexFindAll "\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}" (toJson $v.config) -1 | uniq) -}}
{{- $name := . | trimPrefix "${" | trimSuffix "}" -}}
{{- if not (hasKey $v.secretEnv $name) -}}
{{- fail (printf "\n\nconfig names ${%s}, but secretEnv has no %s, so the gateway would not start.\nAdd secretEnv.%s: the key in existingSecret, or {name: of a Secret, key: in it}.\n" $name $name $name) -}}
{{- end -}}
{{- end -}}
{{- range $section := list "state" "facts" -}}
{{- $url := toString (dig $section "url" "" $v.config) -}}
{{- $inData := regexMatch "^sqlite:////?var/lib/llm-gateway/" $url -}}
{{- if and (hasPrefix "sqlite:" $url) (not (and $v.data.enabled $inData)) -}}
{{- fail (printf "\n\nconfig.%s.url is %s, but the root of the container is read-only.\nSet data.enabled: true, and a file in its folder: sqlite:///var/lib/llm-gateway/%s.db (it lives as long as the pod).\n" $section $url $section) -}}
{{- end -}}
{{- end -}}
{{- if eq (int $v.config.server.port) (int $v.config.server.admin_port) -}}
{{- fail (printf "\n\nconfig.server.port and config.server.admin_port are both %d; the gateway needs two ports.\n" (int $v.config.server.port)) -}}
{{- end -}}
{{- end -}}
