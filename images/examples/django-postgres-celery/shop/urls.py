from django.urls import path

from documents import views

urlpatterns = [
    path("documents/", views.documents),
    path("documents/<int:number>/", views.document),
]
