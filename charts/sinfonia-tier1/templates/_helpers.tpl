{{- define "sinfonia-tier1.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "sinfonia-tier1.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sinfonia-tier1.labels" -}}
{{ include "sinfonia-tier1.selector" . }}
{{ include "sinfonia-tier1.common-labels" . }}
{{- end -}}

{{- define "sinfonia-tier1.common-labels" -}}
app.kubernetes.io/part-of: sinfonia
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "sinfonia-tier1.postgres-selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}-postgres
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sinfonia-tier1.postgres-labels" -}}
{{ include "sinfonia-tier1.postgres-selector" . }}
{{ include "sinfonia-tier1.common-labels" . }}
{{- end -}}

{{- /* The reference of an image: of {image, root}. */ -}}
{{- define "sinfonia-tier1.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "sinfonia-tier1.service-account" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "sinfonia-tier1.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "sinfonia-tier1.tokens-secret" -}}
{{ .Values.tokens.existingSecret | default (printf "%s-tokens" (include "sinfonia-tier1.fullname" .)) }}
{{- end -}}

{{- /* Secret and key of the database's URL; nothing where there is no database. */ -}}
{{- define "sinfonia-tier1.database-secret" -}}
{{- if .Values.database.existingSecret -}}
{{ .Values.database.existingSecret }}
{{- else if .Values.database.bundled.enabled -}}
{{ include "sinfonia-tier1.fullname" . }}-postgres
{{- end -}}
{{- end -}}

{{- define "sinfonia-tier1.scheme" -}}
{{ ternary "https" "http" (ne .Values.tls.existingSecret "") }}
{{- end -}}

{{- /* The service's URL inside of the cluster. */ -}}
{{- define "sinfonia-tier1.url" -}}
{{- $scheme := include "sinfonia-tier1.scheme" . -}}
{{- $usual := ternary 443 80 (eq $scheme "https") -}}
{{ $scheme }}://{{ include "sinfonia-tier1.fullname" . }}.{{ .Release.Namespace }}.svc
{{- if ne (int .Values.service.port) $usual }}:{{ .Values.service.port }}{{ end -}}
{{- end -}}

{{- /* What the schema cannot say. */ -}}
{{- define "sinfonia-tier1.validate" -}}
{{- $database := include "sinfonia-tier1.database-secret" . -}}
{{- if and (gt (int .Values.replicas) 1) (not $database) -}}
{{- fail "replicas: more than one tier1 need a database: set database.existingSecret, or database.bundled.enabled for a trial" -}}
{{- end -}}
{{- if and .Values.database.existingSecret .Values.database.bundled.enabled -}}
{{- fail "database: give existingSecret or bundled.enabled, not both" -}}
{{- end -}}
{{- if and .Values.recipes.url (or .Values.recipes.files .Values.recipes.configMaps) -}}
{{- fail "recipes: give url, or files and configMaps, not both" -}}
{{- end -}}
{{- if not (or .Values.recipes.url .Values.recipes.demo .Values.recipes.files .Values.recipes.configMaps) -}}
{{- fail "recipes: there are none: set demo, files, configMaps or url" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.host: an ingress needs a host name" -}}
{{- end -}}
{{- end -}}
