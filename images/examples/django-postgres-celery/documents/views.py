import json

from django.db import transaction
from django.http import JsonResponse
from django.shortcuts import get_object_or_404

from .models import Document
from .tasks import count_words


def documents(request):
    if request.method != "POST":
        rows = Document.objects.order_by("id").values("id", "text", "words")
        return JsonResponse({"documents": list(rows)})
    text = json.loads(request.body).get("text", "").strip()
    if not text:
        return JsonResponse({"error": "A document needs text."}, status=422)
    document = Document.objects.create(text=text)
    # The worker must not look for a row that is not committed yet.
    transaction.on_commit(lambda: count_words.delay(document.pk))
    return JsonResponse({"id": document.pk}, status=201)


def document(request, number):
    found = get_object_or_404(Document, pk=number)
    return JsonResponse({"id": found.pk, "text": found.text, "words": found.words})
