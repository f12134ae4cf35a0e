{{- define "wasmgate.labels" -}}
app.kubernetes.io/name: wasmgate
{{- end }}

{{/* The configuration file: the values, overridden by what the source of certificates needs. */}}
{{- define "wasmgate.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- if ne .Values.certificates.mode "managed" -}}
{{- $server := omit (default dict $config.server) "certDir" -}}
{{- $_ := set $server "certFile" "/run/wasmgate/certs/tls.crt" -}}
{{- $_ := set $server "keyFile" "/run/wasmgate/certs/tls.key" -}}
{{- $_ := set $config "server" $server -}}
{{- $kubernetes := omit (default dict $config.kubernetes) "webhooks" -}}
{{- $_ := set $kubernetes "certificates" (dict "manage" false) -}}
{{- $_ := set $config "kubernetes" $kubernetes -}}
{{- end -}}
{{- if .Values.webhooks.exemptNamespaces -}}
{{- $exempt := concat (default list $config.exemptNamespaces) .Values.webhooks.exemptNamespaces | uniq -}}
{{- $_ := set $config "exemptNamespaces" $exempt -}}
{{- end -}}
{{- $_ := set $config "apiVersion" "wasmgate.dev/v1alpha1" -}}
{{- $_ := set $config "kind" "GateConfiguration" -}}
{{- toYaml $config -}}
{{- end }}

{{/* What all webhooks share: their address and their namespaces. */}}
{{- define "wasmgate.webhook" -}}
admissionReviewVersions: [v1]
clientConfig:
  service: {name: wasmgate, namespace: {{ .root.Release.Namespace }}, path: {{ .path }}, port: 443}
  {{- if and (eq .root.Values.certificates.mode "files") .root.Values.certificates.caBundle }}
  caBundle: {{ .root.Values.certificates.caBundle | b64enc }}
  {{- end }}
failurePolicy: {{ .values.failurePolicy }}
timeoutSeconds: {{ .values.timeoutSeconds }}
matchPolicy: Equivalent
namespaceSelector:
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: NotIn
      values:
        {{- range concat (list "kube-system" .root.Release.Namespace) .root.Values.webhooks.exemptNamespaces | uniq }}
        - {{ . | quote }}
        {{- end }}
{{- end }}

{{- define "wasmgate.annotations" -}}
{{- if eq .Values.certificates.mode "cert-manager" }}
annotations: {cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/wasmgate}
{{- end }}
{{- end }}

{{- define "wasmgate.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: wasmgate
    namespace: {{ .Release.Namespace }}
{{- end }}
