{{- define "sinfonia-tier2.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "sinfonia-tier2.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sinfonia-tier2.labels" -}}
{{ include "sinfonia-tier2.selector" . }}
{{ include "sinfonia-tier2.common-labels" . }}
{{- end -}}

{{- define "sinfonia-tier2.common-labels" -}}
app.kubernetes.io/part-of: sinfonia
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- /* There is one gateway in a cluster, and its own name leads to its key. */ -}}
{{- define "sinfonia-tier2.gateway-labels" -}}
app.kubernetes.io/name: sinfonia-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{ include "sinfonia-tier2.common-labels" . }}
{{- end -}}

{{- /* The reference of an image: of {image, root}. */ -}}
{{- define "sinfonia-tier2.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "sinfonia-tier2.service-account" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "sinfonia-tier2.fullname" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "sinfonia-tier2.tokens-secret" -}}
{{ .Values.tokens.existingSecret | default (printf "%s-tokens" (include "sinfonia-tier2.fullname" .)) }}
{{- end -}}

{{- /* The secret with the token that deployment requests have to present. */ -}}
{{- define "sinfonia-tier2.deploy-secret" -}}
{{ .Values.tier1.existingSecret | default (include "sinfonia-tier2.tokens-secret" .) }}
{{- end -}}

{{- define "sinfonia-tier2.scheme" -}}
{{ ternary "https" "http" (ne .Values.tls.existingSecret "") }}
{{- end -}}

{{- /* The service's URL inside of the cluster. */ -}}
{{- define "sinfonia-tier2.url" -}}
{{- $scheme := include "sinfonia-tier2.scheme" . -}}
{{- $usual := ternary 443 80 (eq $scheme "https") -}}
{{ $scheme }}://{{ include "sinfonia-tier2.fullname" . }}.{{ .Release.Namespace }}.svc
{{- if ne (int .Values.service.port) $usual }}:{{ .Values.service.port }}{{ end -}}
{{- end -}}

{{- /* Where tier1 reaches this cloudlet. */ -}}
{{- define "sinfonia-tier2.public-url" -}}
{{- if .Values.url -}}
{{ .Values.url }}
{{- else if .Values.ingress.enabled -}}
{{ ternary "https" "http" (ne .Values.ingress.tlsSecret "") }}://{{ .Values.ingress.host }}
{{- else -}}
{{ include "sinfonia-tier2.url" . }}
{{- end -}}
{{- end -}}

{{- /* Whether the Peer resource is made: "true" or nothing. Kilo brings its own. What this release has made stays without
the gateway, as do all peers. */ -}}
{{- define "sinfonia-tier2.makes-peers" -}}
{{- if eq .Values.crds.peers "always" -}}
true
{{- else if eq .Values.crds.peers "auto" -}}
{{- $known := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "peers.kilo.squat.ai" -}}
{{- if or (include "sinfonia-tier2.owns" (dict "object" $known "root" .)) (and .Values.gateway.enabled (not $known)) -}}
true
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Whether an object belongs to this release: of {object, root}. "true" or nothing. */ -}}
{{- define "sinfonia-tier2.owns" -}}
{{- $annotations := ((.object | default dict).metadata).annotations | default dict -}}
{{- if eq (index $annotations "meta.helm.sh/release-name" | default "") .root.Release.Name -}}
true
{{- end -}}
{{- end -}}

{{- /* When what a gateway leaves on its node is removed: with the release, or when this one has no gateway any more. */ -}}
{{- define "sinfonia-tier2.gateway-removal" -}}
{{- if ne (toString (.Values.gateway.removal | default dict).enabled) "false" -}}
{{- if .Values.gateway.enabled -}}
post-delete
{{- else if include "sinfonia-tier2.owns" (dict "object" (lookup "apps/v1" "Deployment" .Release.Namespace "sinfonia-gateway") "root" .) -}}
post-upgrade,post-rollback
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What the schema cannot say. */ -}}
{{- define "sinfonia-tier2.validate" -}}
{{- if and .Values.recipes.url (or .Values.recipes.files .Values.recipes.configMaps) -}}
{{- fail "recipes: give url, or files and configMaps, not both" -}}
{{- end -}}
{{- if not (or .Values.recipes.url .Values.recipes.demo .Values.recipes.files .Values.recipes.configMaps) -}}
{{- fail "recipes: there are none: set demo, files, configMaps or url" -}}
{{- end -}}
{{- if and .Values.recipes.demo (not .Values.recipes.url) (not (.Files.Get "files/helloworld-0.1.0.tgz")) -}}
{{- fail "recipes.demo: this chart lacks the demo backend's chart: `make charts` puts it there, and makes packages that have it" -}}
{{- end -}}
{{- if and .Values.recipes.demo (hasKey (.Values.recipes.files | default dict) "00000000-0000-0000-0000-000000000000.yaml") -}}
{{- fail "recipes.files: 00000000-0000-0000-0000-000000000000.yaml is the demo backend's recipe: set recipes.demo=false to have your own" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress.host: an ingress needs a host name" -}}
{{- end -}}
{{- if and .Values.tier1.existingSecret (not .Values.tier1.url) -}}
{{- fail "tier1.url: there are tokens for a tier1, but not where it is" -}}
{{- end -}}
{{- end -}}

{{- /* What only lives after the release: of a weight. */ -}}
{{- define "sinfonia-tier2.after-release" -}}
{{ include "sinfonia-tier2.hook" (dict "when" "post-delete" "weight" .) }}
{{- end -}}

{{- /* What only lives for a while: of {when, weight}. */ -}}
{{- define "sinfonia-tier2.hook" -}}
helm.sh/hook: {{ .when }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
helm.sh/hook-output-log-policy: hook-failed
{{- end -}}

{{- /* The account of a Job after the release, or at another time: of {name, labels, rules, root, when}. */ -}}
{{- define "sinfonia-tier2.account-after-release" -}}
{{- $hook := include "sinfonia-tier2.hook" (dict "when" (.when | default "post-delete") "weight" 0) -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- .labels | nindent 4 }}
  annotations:
    {{- $hook | nindent 4 }}
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ .name }}
  labels:
    {{- .labels | nindent 4 }}
  annotations:
    {{- $hook | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ .name }}
  labels:
    {{- .labels | nindent 4 }}
  annotations:
    {{- $hook | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ .name }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}
